// What the x86 instruction sets share: conversions and an 8 x 8 transposition.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace devkit {
namespace DEVKIT_ISA {

[[gnu::always_inline]] inline __m256 Load8(const float* address) { return _mm256_loadu_ps(address); }
[[gnu::always_inline]] inline __m256 Load8BFloat16(const uint16_t* address) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(address));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
[[gnu::always_inline]] inline __m256 Load8Float16(const uint16_t* address) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

// t[i][j] to to[j * stride + i]
[[gnu::always_inline]] inline void Transpose8x8(__m256 (&t)[8], float* to, int64_t stride) {
  __m256 u[8];
  for (int i = 0; i < 8; i += 2) {
    u[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
    u[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    t[i] = _mm256_shuffle_ps(u[i], u[i + 2], 0x44);
    t[i + 1] = _mm256_shuffle_ps(u[i], u[i + 2], 0xEE);
    t[i + 2] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0x44);
    t[i + 3] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * stride, _mm256_permute2f128_ps(t[i], t[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * stride, _mm256_permute2f128_ps(t[i], t[i + 4], 0x31));
  }
}

#define DEVKIT_TRANSPOSE 1

}  // namespace DEVKIT_ISA
}  // namespace devkit
