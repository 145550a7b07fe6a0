// Eight floats at a time: AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include "x86.h"

namespace devkit {
namespace DEVKIT_ISA {

using Vec = __m256;
constexpr int64_t kLanes = 8;
constexpr int64_t kRows = 6;  // twelve registers of sums, two of b, one of a

[[gnu::always_inline]] inline Vec Load(const float* address) { return _mm256_loadu_ps(address); }
[[gnu::always_inline]] inline Vec LoadBFloat16(const uint16_t* address) { return Load8BFloat16(address); }
[[gnu::always_inline]] inline Vec LoadFloat16(const uint16_t* address) { return Load8Float16(address); }
[[gnu::always_inline]] inline void Store(float* address, Vec x) { _mm256_storeu_ps(address, x); }
[[gnu::always_inline]] inline Vec Broadcast(float x) { return _mm256_set1_ps(x); }
[[gnu::always_inline]] inline Vec Zero() { return _mm256_setzero_ps(); }
[[gnu::always_inline]] inline Vec Add(Vec x, Vec y) { return _mm256_add_ps(x, y); }
[[gnu::always_inline]] inline Vec Sub(Vec x, Vec y) { return _mm256_sub_ps(x, y); }
[[gnu::always_inline]] inline Vec Mul(Vec x, Vec y) { return _mm256_mul_ps(x, y); }
[[gnu::always_inline]] inline Vec Fma(Vec x, Vec y, Vec z) { return _mm256_fmadd_ps(x, y, z); }

// The larger of the two, and y where either is not a number.
[[gnu::always_inline]] inline Vec Max(Vec x, Vec y) { return _mm256_max_ps(x, y); }

[[gnu::always_inline]] inline float SumOfLanes(Vec x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// The sums of the lanes of four vectors, to `to`.
[[gnu::always_inline]] inline void SumsOfLanes(Vec a, Vec b, Vec c, Vec d, float* to) {
  const __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}

[[gnu::always_inline]] inline float MaxOfLanes(Vec x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

[[gnu::always_inline]] inline Vec LowBitsToExponent(Vec x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}

// x in the lanes from `low` to before `high`, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepRange(Vec x, int low, int high, Vec other) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(low), lane);
  const __m256i above = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(high - 1));
  return _mm256_blendv_ps(x, other, _mm256_castsi256_ps(_mm256_or_si256(below, above)));
}

// x in the lanes where row is not from start to before end, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepOutside(Vec x, const int32_t* start, const int32_t* end, int32_t row, Vec other) {
  const __m256i at = _mm256_set1_epi32(row);
  const __m256i before = _mm256_cmpgt_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(start)), at);
  const __m256i inside = _mm256_cmpgt_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(end)), at);
  return _mm256_blendv_ps(x, other, _mm256_castsi256_ps(_mm256_andnot_si256(before, inside)));
}

[[gnu::always_inline]] inline void Pause() { _mm_pause(); }

}  // namespace DEVKIT_ISA
}  // namespace devkit
