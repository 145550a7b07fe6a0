// Copies of a tile of rows in the order in which the micro-kernel reads them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "element.h"
#include "micro_kernel.h"

namespace devkit {

// Rows of one head of a [batch, seqlen, heads, head_dim] tensor: row i starts at data + i * stride.
template <typename T>
struct Rows {
  const T* data;
  int64_t stride;
  const T* operator[](int64_t i) const { return data + i * stride; }
  Rows From(int64_t i) const { return {data + i * stride, stride}; }
};

// [rows, width] -> panels of 16 columns: element (i, j) at panels[(j / 16) * height * 16 + i * 16 + j % 16]; columns
// from width to a multiple of 16, and rows from `rows` to `height`, are 0.
template <typename T>
void PackByRow(Rows<T> from, int64_t rows, int64_t width, int64_t height, float* panels) {
  for (int64_t j = 0; j < width; j += kColumns) {
    float* panel = panels + j * height;
    const int64_t count = std::min(kColumns, width - j);
    for (int64_t i = 0; i < rows; ++i, panel += kColumns) {
      const T* row = from[i] + j;
      if (count == kColumns) {
        Store(panel, Load(row));
        Store(panel + kLanes, Load(row + kLanes));
      } else {
        for (int64_t c = 0; c < kColumns; ++c) panel[c] = c < count ? ToFloat(row[c]) : 0.0f;
      }
    }
    std::fill_n(panel, (height - rows) * kColumns, 0.0f);
  }
}

template <typename T>
void Transpose8x8(const T* const (&rows)[8], int64_t offset, float* to, int64_t stride) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; ++i) t[i] = Load(rows[i] + offset);
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

// [rows, width] -> transposed panels of 16 rows: element (i, j) at panels[(i / 16) * width * 16 + j * 16 + i % 16];
// rows up to a multiple of 16 are 0.
template <typename T>
void PackTransposed(Rows<T> from, int64_t rows, int64_t width, float* panels) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    float* to = panels + (i / kColumns) * width * kColumns + i % kColumns;
    int64_t j = 0;
    if (i + kLanes <= rows) {
      const T* const eight[8] = {from[i],     from[i + 1], from[i + 2], from[i + 3],
                                 from[i + 4], from[i + 5], from[i + 6], from[i + 7]};
      for (; j + kLanes <= width; j += kLanes) Transpose8x8(eight, j, to + j * kColumns, kColumns);
    }
    for (; j < width; ++j)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        to[j * kColumns + lane] = i + lane < rows ? ToFloat(from[i + lane][j]) : 0.0f;
  }
  if (rows % kColumns != 0 && rows % kColumns <= kLanes) {
    float* to = panels + (rows / kColumns) * width * kColumns + kLanes;
    for (int64_t j = 0; j < width; ++j) Store(to + j * kColumns, Zero());
  }
}

// [rows, width], times `scale`, row after row without gaps; rows up to a multiple of 6 are 0.
template <typename T>
void PackScaled(Rows<T> from, int64_t rows, int64_t width, float scale, float* to) {
  for (int64_t i = 0; i < rows; ++i, to += width) {
    const T* row = from[i];
    for (int64_t j = 0; j < width; ++j) to[j] = ToFloat(row[j]) * scale;
  }
  std::fill_n(to, (RoundUp(rows, kRows) - rows) * width, 0.0f);
}

}  // namespace devkit
