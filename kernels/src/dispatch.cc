#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#include "scalar/scalar.h"

#if defined(EFFNET_EDGE_X86)
#include "x86/x86.h"
#elif defined(EFFNET_EDGE_ARM)
#include <sys/auxv.h>

#include "arm/arm.h"
#endif

namespace effnet_edge {
namespace {

#if defined(EFFNET_EDGE_ARM)
// Bits of the kernel's AT_HWCAP and AT_HWCAP2: arch/arm64/include/uapi/asm/hwcap.h and
// arch/arm/include/uapi/asm/hwcap.h of Linux.
#if defined(__aarch64__)
constexpr unsigned long kHwcapDotProduct = 1UL << 20;
constexpr unsigned long kHwcap2Int8Matrices = 1UL << 13;
#else
constexpr unsigned long kHwcapNeon = 1UL << 12;
#endif
#endif

std::vector<const Kernels*> find_usable() {
    std::vector<const Kernels*> found;
#if defined(EFFNET_EDGE_X86)
    // These also ask the operating system whether it saves the registers.
    __builtin_cpu_init();
    [[maybe_unused]] const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if !defined(EFFNET_EDGE_WITHOUT_AVX512)
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx2 && avx512 && __builtin_cpu_supports("avx512vbmi")) found.push_back(&kAvx512Vbmi);
    if (avx2 && avx512) found.push_back(&kAvx512Vnni);
#endif
#if !defined(EFFNET_EDGE_WITHOUT_AVXVNNI)
    if (avx2 && __builtin_cpu_supports("avxvnni")) found.push_back(&kAvxVnni);
#endif
#if !defined(EFFNET_EDGE_WITHOUT_AVX2)
    if (avx2) found.push_back(&kAvx2);
#endif
#elif defined(__aarch64__) && defined(EFFNET_EDGE_ARM)
    [[maybe_unused]] const bool dot_product = (getauxval(AT_HWCAP) & kHwcapDotProduct) != 0;
#if !defined(EFFNET_EDGE_WITHOUT_I8MM)
    if (dot_product && (getauxval(AT_HWCAP2) & kHwcap2Int8Matrices) != 0) {
        found.push_back(&kNeonI8mm);
    }
#endif
#if !defined(EFFNET_EDGE_WITHOUT_DOT)
    if (dot_product) found.push_back(&kNeonDot);
#endif
    found.push_back(&kNeon);
#elif defined(EFFNET_EDGE_ARM)
    if ((getauxval(AT_HWCAP) & kHwcapNeon) != 0) found.push_back(&kNeon);
#endif
    found.push_back(&kScalar);
    found.push_back(&kScalarFixed);
    return found;
}

}  // namespace

const std::vector<const Kernels*>& usable_kernels() {
    static const std::vector<const Kernels*> usable = find_usable();
    return usable;
}

const Kernels* chosen_kernels() {
    const std::vector<const Kernels*>& usable = usable_kernels();
    const char* asked = std::getenv("EFFNET_EDGE_ISA");
    if (asked == nullptr || *asked == '\0') return usable.front();
    for (const Kernels* kernels : usable) {
        if (std::strcmp(kernels->name, asked) == 0) return kernels;
    }
    return nullptr;
}

}  // namespace effnet_edge
