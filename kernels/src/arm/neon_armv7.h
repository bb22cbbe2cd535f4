// The AArch64 intrinsics that the plain NEON kernels use and 32-bit ARM lacks, made of those that
// it has. Nothing is defined on AArch64.
#pragma once

#include <arm_neon.h>

#if !defined(__aarch64__)

namespace effnet_edge {
namespace {

inline int16x8_t vmull_high_s8(int8x16_t a, int8x16_t b) {
    return vmull_s8(vget_high_s8(a), vget_high_s8(b));
}

inline int16x8_t vmlal_high_s8(int16x8_t sum, int8x16_t a, int8x16_t b) {
    return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
}

inline int32x4_t vaddw_high_s16(int32x4_t sum, int16x8_t a) {
    return vaddw_s16(sum, vget_high_s16(a));
}

inline int16x8_t vaddw_high_s8(int16x8_t sum, int8x16_t a) {
    return vaddw_s8(sum, vget_high_s8(a));
}

inline int16x8_t vqmovn_high_s32(int16x4_t low, int32x4_t high) {
    return vcombine_s16(low, vqmovn_s32(high));
}

inline uint8x16_t vqmovun_high_s16(uint8x8_t low, int16x8_t high) {
    return vcombine_u8(low, vqmovun_s16(high));
}

inline int8x16_t vqmovn_high_s16(int8x8_t low, int16x8_t high) {
    return vcombine_s8(low, vqmovn_s16(high));
}

inline uint8x16_t vqtbl2q_u8(uint8x16x2_t table, uint8x16_t index) {
    const uint8x8x4_t quarters = {{vget_low_u8(table.val[0]), vget_high_u8(table.val[0]),
                                   vget_low_u8(table.val[1]), vget_high_u8(table.val[1])}};
    return vcombine_u8(vtbl4_u8(quarters, vget_low_u8(index)),
                       vtbl4_u8(quarters, vget_high_u8(index)));
}

inline uint8x16x2_t vld1q_u8_x2(const uint8_t* from) {
    return {{vld1q_u8(from), vld1q_u8(from + 16)}};
}

inline uint16x8x4_t vld4q_dup_u16(const uint16_t* from) {
    const uint16x4_t four = vld1_u16(from);
    return {{vdupq_lane_u16(four, 0), vdupq_lane_u16(four, 1), vdupq_lane_u16(four, 2),
             vdupq_lane_u16(four, 3)}};
}

}  // namespace
}  // namespace effnet_edge

// The count of a shift is part of the instruction: these can't be functions.
#define vqrshrn_high_n_s32(low, high, count) vcombine_s16(low, vqrshrn_n_s32(high, count))
#define vqshrn_high_n_s16(low, high, count) vcombine_s8(low, vqshrn_n_s16(high, count))
#define vshll_high_n_s8(a, count) vshll_n_s8(vget_high_s8(a), count)
#define vshll_high_n_u8(a, count) vshll_n_u8(vget_high_u8(a), count)

#endif  // !defined(__aarch64__)
