// A loop of which every instruction is known: what the tests of the counter count.

#include "markers.h"

int main() {
    effnet_edge_count_begin();
    long rounds = 1000;
    asm volatile(
        ".arch armv8.2-a+dotprod\n"
        "1: fmul v0.4s, v0.4s, v1.4s\n"
        "   fmul v0.4s, v0.4s, v1.4s\n"
        "   sdot v2.4s, v3.16b, v4.16b\n"
        "   ldr q5, [sp]\n"
        "   subs %0, %0, #1\n"
        "   b.ne 1b\n"
        : "+r"(rounds)
        :
        : "v0", "v2", "v5", "cc");
    effnet_edge_count_end();
    return 0;
}
