// The products of six pixels and 16 channels: the tile that nearly all multiplications of a network
// are done in.
//
// In assembler because 24 sums, 6 registers of inputs and 2 of weights are all that there are: GCC
// 12 copies or spills a third of the sums around the loop, which costs 5 to 30 % of the time, the
// more the shorter the loop.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "dot_epilogue.h"

namespace effnet_edge {
namespace {

constexpr int kTilePixels = 6;

// One vector of weights, of four channels, times four inputs of each pixel.
#define EFFNET_EDGE_SDOTS(weights, lane, p0, p1, p2, p3, p4, p5) \
    "sdot v" #p0 ".4s, " weights ".16b, v24.4b[" #lane           \
    "]\n\t"                                                      \
    "sdot v" #p1 ".4s, " weights ".16b, v25.4b[" #lane           \
    "]\n\t"                                                      \
    "sdot v" #p2 ".4s, " weights ".16b, v26.4b[" #lane           \
    "]\n\t"                                                      \
    "sdot v" #p3 ".4s, " weights ".16b, v27.4b[" #lane           \
    "]\n\t"                                                      \
    "sdot v" #p4 ".4s, " weights ".16b, v28.4b[" #lane           \
    "]\n\t"                                                      \
    "sdot v" #p5 ".4s, " weights ".16b, v29.4b[" #lane "]\n\t"

// Four inputs of 16 channels.
#define EFFNET_EDGE_FOUR_INPUTS(lane)                                                             \
    "ldp q30, q31, [x14], #32\n\t" EFFNET_EDGE_SDOTS("v30", lane, 0, 4, 8, 12, 16, 20)            \
        EFFNET_EDGE_SDOTS("v31", lane, 1, 5, 9, 13, 17,                                           \
                          21) "ldp q30, q31, [x14], #32\n\t" EFFNET_EDGE_SDOTS("v30", lane, 2, 6, \
                                                                               10, 14, 18, 22)    \
            EFFNET_EDGE_SDOTS("v31", lane, 3, 7, 11, 15, 19, 23)

#define EFFNET_EDGE_SIXTEEN_INPUTS                                                  \
    "ldr q24, [x8], #16\n\t"                                                        \
    "ldr q25, [x9], #16\n\t"                                                        \
    "ldr q26, [x10], #16\n\t"                                                       \
    "ldr q27, [x11], #16\n\t"                                                       \
    "ldr q28, [x12], #16\n\t"                                                       \
    "ldr q29, [x13], #16\n\t" EFFNET_EDGE_FOUR_INPUTS(0) EFFNET_EDGE_FOUR_INPUTS(1) \
        EFFNET_EDGE_FOUR_INPUTS(2) EFFNET_EDGE_FOUR_INPUTS(3)

// sums[pixel * 4 + vector] = bias + the products of `depth` inputs, of which there are 16 at
// least. Pixels are `stride` bytes apart. Weights: for every four inputs those of 16 channels.
EFFNET_EDGE_INLINE void multiply_tile(const uint8_t* in, size_t stride, const int8_t* weights,
                                      int depth, const int32_t* bias,
                                      int32x4_t (&sums)[kTilePixels * 4]) {
    register int32x4_t s0 asm("v0"), s1 asm("v1"), s2 asm("v2"), s3 asm("v3"), s4 asm("v4"),
        s5 asm("v5"), s6 asm("v6"), s7 asm("v7"), s8 asm("v8"), s9 asm("v9"), s10 asm("v10"),
        s11 asm("v11"), s12 asm("v12"), s13 asm("v13"), s14 asm("v14"), s15 asm("v15"),
        s16 asm("v16"), s17 asm("v17"), s18 asm("v18"), s19 asm("v19"), s20 asm("v20"),
        s21 asm("v21"), s22 asm("v22"), s23 asm("v23");
    asm volatile(
        // The first sixteen inputs are apart from the loop, beside the loads of biases.
        "ldp q0, q1, [%[bias]]\n\t"
        "ldp q2, q3, [%[bias], #32]\n\t"
        "ldp q4, q5, [%[bias]]\n\t"
        "ldp q6, q7, [%[bias], #32]\n\t"
        "ldp q8, q9, [%[bias]]\n\t"
        "ldp q10, q11, [%[bias], #32]\n\t"
        "ldp q12, q13, [%[bias]]\n\t"
        "ldp q14, q15, [%[bias], #32]\n\t"
        "ldp q16, q17, [%[bias]]\n\t"
        "ldp q18, q19, [%[bias], #32]\n\t"
        "ldp q20, q21, [%[bias]]\n\t"
        "ldp q22, q23, [%[bias], #32]\n\t"
        "mov x8, %[in]\n\t"
        "add x9, x8, %[stride]\n\t"
        "add x10, x8, %[stride], lsl #1\n\t"
        "add x11, x9, %[stride], lsl #1\n\t"
        "add x12, x8, %[stride], lsl #2\n\t"
        "add x13, x9, %[stride], lsl #2\n\t"
        "mov x14, %[weights]\n\t"
        "sub w15, %w[depth], #16\n\t" EFFNET_EDGE_SIXTEEN_INPUTS
        "subs w15, w15, #16\n\t"
        "b.lt 2f\n"
        "1:\n\t" EFFNET_EDGE_SIXTEEN_INPUTS
        "subs w15, w15, #16\n\t"
        "b.ge 1b\n"
        "2:\n\t"
        "tbz w15, #3, 3f\n\t"
        "ldr d24, [x8]\n\t"
        "ldr d25, [x9]\n\t"
        "ldr d26, [x10]\n\t"
        "ldr d27, [x11]\n\t"
        "ldr d28, [x12]\n\t"
        "ldr d29, [x13]\n\t" EFFNET_EDGE_FOUR_INPUTS(0) EFFNET_EDGE_FOUR_INPUTS(1) "3:\n\t"
        : "=w"(s0), "=w"(s1), "=w"(s2), "=w"(s3), "=w"(s4), "=w"(s5), "=w"(s6), "=w"(s7), "=w"(s8),
          "=w"(s9), "=w"(s10), "=w"(s11), "=w"(s12), "=w"(s13), "=w"(s14), "=w"(s15), "=w"(s16),
          "=w"(s17), "=w"(s18), "=w"(s19), "=w"(s20), "=w"(s21), "=w"(s22), "=w"(s23)
        : [in] "r"(in), [stride] "r"(stride), [weights] "r"(weights), [depth] "r"(depth),
          [bias] "r"(bias)
        : "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "v24", "v25", "v26", "v27", "v28",
          "v29", "v30", "v31", "cc", "memory");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    sums[4] = s4;
    sums[5] = s5;
    sums[6] = s6;
    sums[7] = s7;
    sums[8] = s8;
    sums[9] = s9;
    sums[10] = s10;
    sums[11] = s11;
    sums[12] = s12;
    sums[13] = s13;
    sums[14] = s14;
    sums[15] = s15;
    sums[16] = s16;
    sums[17] = s17;
    sums[18] = s18;
    sums[19] = s19;
    sums[20] = s20;
    sums[21] = s21;
    sums[22] = s22;
    sums[23] = s23;
}

#undef EFFNET_EDGE_SIXTEEN_INPUTS
#undef EFFNET_EDGE_FOUR_INPUTS
#undef EFFNET_EDGE_SDOTS

}  // namespace
}  // namespace effnet_edge
