// The product of two packed tiles, kRows rows by kColumns columns at a time, the sums in registers.
#pragma once

#include "simd.h"
#ifdef DEVKIT_TILES
#include "tiles.h"
#endif

namespace devkit {
namespace DEVKIT_ISA {

// What a word of a packed tile is: a float, or a pair of bfloat16 whose products are summed at once.
struct Floats {
  static constexpr int64_t kPerWord = 1;
  DEVKIT_INLINE static Vec MultiplyAdd(Vec x, Vec y, Vec z) { return Fma(x, y, z); }
};

#ifdef DEVKIT_PAIRS
struct BFloat16Pairs {
  static constexpr int64_t kPerWord = 2;
  DEVKIT_INLINE static Vec MultiplyAdd(Vec x, Vec y, Vec z) { return DotPairs(x, y, z); }
};
#endif

struct MicroTile {
  Vec at[kRows][kHalves];

  DEVKIT_INLINE void Clear() {
    for (auto& row : at) row[0] = row[1] = Zero();
  }
  DEVKIT_INLINE void StoreTo(float* c, int64_t stride) const {
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t half = 0; half < kHalves; ++half) Store(c + r * stride + half * kLanes, at[r][half]);
  }
  // A sum over thousands of terms keeps more digits as a sum of the sums of tiles than term by term.
  DEVKIT_INLINE void AddTo(float* c, int64_t stride) const {
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t half = 0; half < kHalves; ++half) {
        float* address = c + r * stride + half * kLanes;
        Store(address, Add(Load(address), at[r][half]));
      }
    }
  }
};

// How the left factor lies: word (row, k) is at a[row * stride + k] or at a[k * stride + row].
enum class Left { kByRow, kByDepth };

// sums[row][column] += sum over k of a(row, k) b[k * kColumns + column], k and depth counted in words.
template <class Word, Left layout>
DEVKIT_INLINE void MultiplyAdd(const float* __restrict a, int64_t stride, const float* __restrict b, int64_t depth,
                               MicroTile& sums) {
#ifdef DEVKIT_TILES
  if constexpr (Word::kPerWord == 2)
    return MultiplyAddTiles(a, stride, layout == Left::kByRow, b, depth, reinterpret_cast<float*>(sums.at));
#endif
  Vec s[kRows][kHalves];
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
    s[r][0] = sums.at[r][0];
    s[r][1] = sums.at[r][1];
  }
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    const Vec b0 = Load(b + k * kColumns);
    const Vec b1 = Load(b + k * kColumns + kLanes);
#pragma GCC unroll 12
    for (int64_t r = 0; r < kRows; ++r) {
      const Vec x = Broadcast(layout == Left::kByRow ? a[r * stride + k] : a[k * stride + r]);
      s[r][0] = Word::MultiplyAdd(x, b0, s[r][0]);
      s[r][1] = Word::MultiplyAdd(x, b1, s[r][1]);
    }
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
    sums.at[r][0] = s[r][0];
    sums.at[r][1] = s[r][1];
  }
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
