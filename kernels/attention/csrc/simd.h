// Eight floats at a time: the AVX2 and FMA instructions the kernels are written in.
#pragma once

#include <immintrin.h>

namespace devkit {

using Vec = __m256;
constexpr int kLanes = 8;

inline Vec Load(const float* address) { return _mm256_loadu_ps(address); }
inline void Store(float* address, Vec x) { _mm256_storeu_ps(address, x); }
inline Vec Broadcast(float x) { return _mm256_set1_ps(x); }
inline Vec Zero() { return _mm256_setzero_ps(); }
inline Vec Add(Vec x, Vec y) { return _mm256_add_ps(x, y); }
inline Vec Sub(Vec x, Vec y) { return _mm256_sub_ps(x, y); }
inline Vec Mul(Vec x, Vec y) { return _mm256_mul_ps(x, y); }
inline Vec Fma(Vec x, Vec y, Vec z) { return _mm256_fmadd_ps(x, y, z); }

// The larger of the two, and y where either is not a number.
inline Vec Max(Vec x, Vec y) { return _mm256_max_ps(x, y); }

inline float SumOfLanes(Vec x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

inline float MaxOfLanes(Vec x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

// x in its first `count` lanes (all of them from 8 on, none below 1), `other` in the rest.
inline Vec KeepFirst(Vec x, long count, Vec other) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int clamped = count < 0 ? 0 : count > kLanes ? kLanes : static_cast<int>(count);
  const __m256i keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(clamped), lane);
  return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(keep));
}

// 2 to the x for x <= 127: 2^n 2^f with n the nearest integer and f within half of zero, 2^f by a polynomial with a
// relative error of 2e-7. From -126.5 down the result is exactly 0, so a masked score of -inf weighs nothing.
inline Vec Exp2(Vec x) {
  // Adding this leaves n + 127 in the low bits of the sum: shifted into the exponent's place, they are 2^n.
  const Vec magic = Broadcast(12582912.0f + 127.0f);
  x = Max(Broadcast(-127.0f), x);
  const Vec shifted = Add(x, magic);
  const Vec f = Sub(x, Sub(shifted, magic));
  Vec p = Broadcast(0.0013264727f);
  p = Fma(p, f, Broadcast(0.009671513f));
  p = Fma(p, f, Broadcast(0.055507336f));
  p = Fma(p, f, Broadcast(0.24022242f));
  p = Fma(p, f, Broadcast(0.693147f));
  p = Fma(p, f, Broadcast(1.0f));
  const __m256i power = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return Mul(p, _mm256_castsi256_ps(power));
}

}  // namespace devkit
