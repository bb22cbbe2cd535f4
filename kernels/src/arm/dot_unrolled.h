// Loops without a loop.
#pragma once

// Sums live in arrays of registers: a function that isn't inlined would put them into memory. And
// as files are compiled for different processors, none may leave a copy of an inline function for
// others.
#define EFFNET_EDGE_INLINE inline __attribute__((always_inline))
#define EFFNET_EDGE_INLINED __attribute__((always_inline))  // a lambda

namespace effnet_edge {
namespace {

template <int kValue>
struct Index {
    static constexpr int value = kValue;
};

// body(Index<0>) to body(Index<kCount - 1>). Where a loop is unrolled too late, GCC 12 writes to
// memory what it then doesn't read.
template <int kCount, int kFirst = 0, class Body>
EFFNET_EDGE_INLINE void unrolled(const Body& body) {
    if constexpr (kFirst < kCount) {
        body(Index<kFirst>{});
        unrolled<kCount, kFirst + 1>(body);
    }
}

}  // namespace
}  // namespace effnet_edge
