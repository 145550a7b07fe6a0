// Products of tiles of sixteen rows of sixteen words, a word being two bfloat16: by AMX, or by loops that do the same.
// Included by micro_kernel.h where DEVKIT_TILES is set.
#pragma once

#include "simd.h"

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kTile = 16;
static_assert(kRows == kTile && kLanes == kTile && kHalves == 2);

#ifdef __AMX_BF16__

// The processor's tile registers, each of sixteen rows of 64 bytes, for the thread and the lifetime that it is made in:
// 0 and 1 are sums, 2 is the left factor, 3 and 4 are halves of the right one.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16};
    } configuration;
    _tile_loadconfig(&configuration);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

[[gnu::always_inline]] inline void LoadSums(const float* from) {
  _tile_loadd(0, from, kColumns * sizeof(float));
  _tile_loadd(1, from + kTile, kColumns * sizeof(float));
}
[[gnu::always_inline]] inline void StoreSums(float* to) {
  _tile_stored(0, to, kColumns * sizeof(float));
  _tile_stored(1, to + kTile, kColumns * sizeof(float));
}
// sums += a b, where row r of a is at a + r * stride and word k of b's column c at b[k * kColumns + c].
[[gnu::always_inline]] inline void AddTileProduct(const float* a, int64_t stride, const float* b) {
  _tile_loadd(2, a, stride * sizeof(float));
  _tile_loadd(3, b, kColumns * sizeof(float));
  _tile_loadd(4, b + kTile, kColumns * sizeof(float));
  _tile_dpbf16ps(0, 2, 3);
  _tile_dpbf16ps(1, 2, 4);
}

#else

struct TileRegisters {
  TileRegisters() {}
};

inline thread_local float tile_sums[kTile * kColumns];

inline void LoadSums(const float* from) { std::memcpy(tile_sums, from, sizeof tile_sums); }
inline void StoreSums(float* to) { std::memcpy(to, tile_sums, sizeof tile_sums); }
inline void AddTileProduct(const float* a, int64_t stride, const float* b) {
  for (int64_t r = 0; r < kTile; ++r) {
    for (int64_t c = 0; c < kColumns; c += kLanes) {
      Vec sum = Load(tile_sums + r * kColumns + c);
      for (int64_t k = 0; k < kTile; ++k) sum = DotPairs(Broadcast(a[r * stride + k]), Load(b + k * kColumns + c), sum);
      Store(tile_sums + r * kColumns + c, sum);
    }
  }
}

#endif

// sums[row][column] += sum over k of a(row, k) b[k * kColumns + column], k and depth counted in words; by_row says how
// a lies, as Left does.
DEVKIT_INLINE void MultiplyAddTiles(const float* a, int64_t stride, bool by_row, const float* b, int64_t depth,
                                    float* sums) {
  alignas(64) float left[kTile * kTile], right[kTile * kColumns];
  LoadSums(sums);
  for (int64_t k = 0; k < depth; k += kTile) {
    const int64_t words = Least(kTile, depth - k);
    const bool whole = words == kTile;
    if (!whole || !by_row) {
      Fill(left, kTile * kTile, 0.0f);
      for (int64_t r = 0; r < kTile; ++r)
        for (int64_t i = 0; i < words; ++i)
          std::memcpy(left + r * kTile + i, by_row ? a + r * stride + k + i : a + (k + i) * stride + r, sizeof(float));
    }
    if (!whole) {
      std::memcpy(right, b + k * kColumns, words * kColumns * sizeof(float));
      Fill(right + words * kColumns, (kTile - words) * kColumns, 0.0f);
    }
    AddTileProduct(whole && by_row ? a + k : left, whole && by_row ? stride : kTile, whole ? b + k * kColumns : right);
  }
  StoreSums(sums);
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
