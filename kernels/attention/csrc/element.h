// What tensors are made of: float, or bfloat16 that is computed with as float.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace devkit {

// The upper half of a float.
struct BFloat16 {
  uint16_t bits;
};

inline float ToFloat(float x) { return x; }

inline float ToFloat(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

inline void FromFloat(float x, float* to) { *to = x; }

// Rounds to the nearest, and to the even of two; what is not a number stays so.
inline void FromFloat(float x, BFloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  to->bits = x != x ? 0x7FC0 : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}

inline Vec Load(const BFloat16* address) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(address));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

}  // namespace devkit
