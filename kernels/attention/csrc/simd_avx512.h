// Sixteen floats at a time: AVX-512 (F, BW, DQ, VL), and with DEVKIT_PAIRS the products of pairs of AVX512_BF16. With
// DEVKIT_TILES the products are AMX's (tiles.h).
#pragma once

#include <immintrin.h>

#include "x86.h"

namespace devkit {
namespace DEVKIT_ISA {

using Vec = __m512;
constexpr int64_t kLanes = 16;
#ifdef DEVKIT_TILES
constexpr int64_t kRows = 16;  // of a tile
#else
constexpr int64_t kRows = 12;  // twenty-four registers of sums, two of b, one of a
#endif

[[gnu::always_inline]] inline Vec Load(const float* address) { return _mm512_loadu_ps(address); }
[[gnu::always_inline]] inline Vec LoadBFloat16(const uint16_t* address) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(address));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
[[gnu::always_inline]] inline Vec LoadFloat16(const uint16_t* address) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(address)));
}
[[gnu::always_inline]] inline void Store(float* address, Vec x) { _mm512_storeu_ps(address, x); }
[[gnu::always_inline]] inline Vec Broadcast(float x) { return _mm512_set1_ps(x); }
[[gnu::always_inline]] inline Vec Zero() { return _mm512_setzero_ps(); }
[[gnu::always_inline]] inline Vec Add(Vec x, Vec y) { return _mm512_add_ps(x, y); }
[[gnu::always_inline]] inline Vec Sub(Vec x, Vec y) { return _mm512_sub_ps(x, y); }
[[gnu::always_inline]] inline Vec Mul(Vec x, Vec y) { return _mm512_mul_ps(x, y); }
[[gnu::always_inline]] inline Vec Fma(Vec x, Vec y, Vec z) { return _mm512_fmadd_ps(x, y, z); }

// The larger of the two, and y where either is not a number.
[[gnu::always_inline]] inline Vec Max(Vec x, Vec y) { return _mm512_max_ps(x, y); }

[[gnu::always_inline]] inline float SumOfLanes(Vec x) { return _mm512_reduce_add_ps(x); }
// The sums of the lanes of four vectors, to `to`.
[[gnu::always_inline]] inline void SumsOfLanes(Vec a, Vec b, Vec c, Vec d, float* to) {
  const auto halves = [](Vec x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); };
  const __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(halves(a), halves(b)), _mm256_hadd_ps(halves(c), halves(d)));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}

[[gnu::always_inline]] inline float MaxOfLanes(Vec x) { return _mm512_reduce_max_ps(x); }

[[gnu::always_inline]] inline Vec LowBitsToExponent(Vec x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}

// x in the lanes from `low` to before `high`, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepRange(Vec x, int low, int high, Vec other) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 keep = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(low)) &
                         _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(high));
  return _mm512_mask_blend_ps(keep, other, x);
}

// x in the lanes where row is not from start to before end, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepOutside(Vec x, const int32_t* start, const int32_t* end, int32_t row, Vec other) {
  const __m512i at = _mm512_set1_epi32(row);
  const __mmask16 inside =
      _mm512_cmple_epi32_mask(_mm512_loadu_si512(start), at) & _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(end), at);
  return _mm512_mask_blend_ps(inside, x, other);
}

#ifdef DEVKIT_PAIRS
// A word holds two bfloat16: sums + x.low y.low + x.high y.high, lane by lane.
[[gnu::always_inline]] inline Vec DotPairs(Vec x, Vec y, Vec sums) {
  return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_castps_si512(x), (__m512bh)_mm512_castps_si512(y));
}
// Words of two floats rounded to bfloat16: `low` in the low halves.
[[gnu::always_inline]] inline Vec Pairs(Vec low, Vec high) {
  const __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
  const __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
  return _mm512_castsi512_ps(_mm512_or_si512(l, _mm512_slli_epi32(h, 16)));
}
[[gnu::always_inline]] inline void StoreBFloat16(uint16_t* address, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(address), (__m256i)_mm512_cvtneps_pbh(x));
}
#endif

[[gnu::always_inline]] inline void Pause() { _mm_pause(); }

}  // namespace DEVKIT_ISA
}  // namespace devkit
