// The product of two packed tiles, 6 rows by 16 columns at a time: twelve vector registers of sums, two of b, one of a.
#pragma once

#include <cstdint>

#include "simd.h"

namespace devkit {

constexpr int64_t kRows = 6;                     // rows of a micro-tile
constexpr int64_t kColumns = 2 * kLanes;         // columns of a micro-tile, and of a panel
constexpr int64_t kHalves = kColumns / kLanes;

constexpr int64_t DivideUp(int64_t x, int64_t y) { return (x + y - 1) / y; }
constexpr int64_t RoundUp(int64_t x, int64_t y) { return DivideUp(x, y) * y; }

struct MicroTile {
  Vec at[kRows][kHalves];

  void Clear() {
    for (auto& row : at) row[0] = row[1] = Zero();
  }
  void StoreTo(float* c, int64_t stride) const {
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t half = 0; half < kHalves; ++half) Store(c + r * stride + half * kLanes, at[r][half]);
  }
  // A sum over thousands of terms keeps more digits as a sum of the sums of tiles than term by term.
  void AddTo(float* c, int64_t stride) const {
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t half = 0; half < kHalves; ++half) {
        float* address = c + r * stride + half * kLanes;
        Store(address, Add(Load(address), at[r][half]));
      }
    }
  }
};

// How the left factor lies: element (row, k) is at a[row * stride + k] or at a[k * stride + row].
enum class Left { kByRow, kByDepth };

// sums[row][column] += sum over k of a(row, k) b[k * 16 + column]
template <Left layout>
[[gnu::always_inline]] inline void MultiplyAdd(const float* __restrict a, int64_t stride, const float* __restrict b,
                                               int64_t depth, MicroTile& sums) {
  Vec s[kRows][kHalves];
#pragma GCC unroll 6
  for (int64_t r = 0; r < kRows; ++r) {
    s[r][0] = sums.at[r][0];
    s[r][1] = sums.at[r][1];
  }
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    const Vec b0 = Load(b + k * kColumns);
    const Vec b1 = Load(b + k * kColumns + kLanes);
#pragma GCC unroll 6
    for (int64_t r = 0; r < kRows; ++r) {
      const Vec x = Broadcast(layout == Left::kByRow ? a[r * stride + k] : a[k * stride + r]);
      s[r][0] = Fma(x, b0, s[r][0]);
      s[r][1] = Fma(x, b1, s[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int64_t r = 0; r < kRows; ++r) {
    sums.at[r][0] = s[r][0];
    sums.at[r][1] = s[r][1];
  }
}

}  // namespace devkit
