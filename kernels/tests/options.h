// The command line that the fuzzers share: [--isa NAME] [--cases N] [--seed S]
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../src/dispatch.h"

namespace effnet_edge {

#if defined(EFFNET_EDGE_EVEX)
extern const Kernels kAvxVnniEvex;
#endif

// What there is to test: all that this processor can use, and with AVX-512 the AVX-VNNI kernels in
// its encoding, since few processors have AVX-VNNI.
inline std::vector<const Kernels*> tested_kernels() {
    std::vector<const Kernels*> tested = usable_kernels();
#if defined(EFFNET_EDGE_EVEX)
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
        tested.push_back(&kAvxVnniEvex);
    }
#endif
    return tested;
}

// Runs fuzz(kernels, cases, seed) for the instruction set named, or for each that this processor
// can use. Returns the process's exit status: 0 all equal, 1 a difference, 2 wrong usage.
template <class Fuzz>
int fuzz_instruction_sets(int argc, char** argv, const Fuzz& fuzz) {
    int cases = 200;
    unsigned seed = 1;
    std::string isa;
    for (int i = 1; i < argc; i += 2) {
        const std::string option = argv[i];
        const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (value != nullptr && option == "--isa") {
            isa = value;
        } else if (value != nullptr && option == "--cases") {
            cases = std::atoi(value);
        } else if (value != nullptr && option == "--seed") {
            seed = static_cast<unsigned>(std::strtoul(value, nullptr, 10));
        } else {
            std::printf("usage: %s [--isa NAME] [--cases N] [--seed S]\n", argv[0]);
            return 2;
        }
    }
    bool good = true;
    int tried = 0;
    for (const Kernels* kernels : tested_kernels()) {
        if (!isa.empty() && isa != kernels->name) continue;
        ++tried;
        good = fuzz(*kernels, cases, seed) && good;
    }
    if (tried == 0) {
        std::printf("this processor or library has no kernels called '%s'\n", isa.c_str());
        return 2;
    }
    return good ? 0 : 1;
}

}  // namespace effnet_edge
