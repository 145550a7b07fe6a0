// SpMM and SDDMM: a sparse matrix times a dense one, and the entries of a dense product at a sparse matrix's places.
#pragma once

#include "rows.h"
#include "vector.h"

namespace devkit {

// How many entries ahead the rows of the dense matrix are called into the cache: their places are no pattern that the
// processor would see by itself.
constexpr int64_t kAhead = 8;

template <typename T>
inline void Prefetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(from + i);
}

// out[:kVectors] = sum of values[e] * dense[cols[e], :] over a row's entries, of which `known` more can be looked up.
// kWays sums run side by side, since one alone waits for the adder; their number is part of the result's bits, the
// threads' is not.
template <typename T, typename I, int kVectors, int kWays>
inline void Multiply(const T* values, const I* cols, int64_t count, int64_t known, const T* dense, int64_t stride,
                     T* out) {
  Vec<T> sums[kWays][kVectors] = {};
  int64_t e = 0;
  for (; e + kWays <= count; e += kWays) {
    if (e + kWays + kAhead <= known) {
#pragma GCC unroll 8
      for (int way = 0; way < kWays; ++way) {
        Prefetch(dense + cols[e + way + kAhead] * stride, kVectors * kLanes<T>);
      }
    }
#pragma GCC unroll 8
    for (int way = 0; way < kWays; ++way) {
      const Vec<T> value = Broadcast<T>(values[e + way]);
      const T* from = dense + cols[e + way] * stride;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[way][v] = Fma(value, Load(from + v * kLanes<T>), sums[way][v]);
    }
  }
  for (; e < count; ++e) {
    const Vec<T> value = Broadcast<T>(values[e]);
    const T* from = dense + cols[e] * stride;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[0][v] = Fma(value, Load(from + v * kLanes<T>), sums[0][v]);
  }
#pragma GCC unroll 8
  for (int way = 1; way < kWays; ++way) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[0][v] += sums[way][v];
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes<T>, sums[0][v]);
}

template <typename T, typename I>
inline void MultiplyNarrow(const T* values, const I* cols, int64_t count, const T* dense, int64_t stride, int64_t width,
                           T* out) {
  T sums[kLanes<T>] = {};
  for (int64_t e = 0; e < count; ++e) {
    const T* from = dense + cols[e] * stride;
    for (int64_t j = 0; j < width; ++j) sums[j] += values[e] * from[j];
  }
  std::copy_n(sums, width, out);
}

// out [batch, rows, width] = sparse [batch, rows, columns] times dense [batch, columns, width].
template <typename T, typename I>
bool Spmm(const Rows<I>& sparse, const T* values, const T* dense, int64_t width, T* out, int threads) {
  constexpr int64_t kLane = kLanes<T>;
  // Panels of eight vectors, whose sums stay in registers; a second panel reads places and values again.
  for (int64_t left = 0; left < width; left += 8 * kLane) {
    const int64_t right = std::min(width, left + 8 * kLane);
    const auto one_row = [&](int64_t row, int64_t begin, int64_t end) {
      const T* source = dense + sparse.MatrixOf(row) * sparse.columns * width;
      T* to = out + row * width;
      const T* v = values + begin;
      const I* c = sparse.cols + begin;
      const int64_t count = end - begin, known = sparse.first[sparse.MatrixOf(row) + 1] - begin;
      int64_t j = left;
      for (; j + 8 * kLane <= right; j += 8 * kLane) Multiply<T, I, 8, 1>(v, c, count, known, source + j, width, to + j);
      for (; j + 4 * kLane <= right; j += 4 * kLane) Multiply<T, I, 4, 2>(v, c, count, known, source + j, width, to + j);
      for (; j + 2 * kLane <= right; j += 2 * kLane) Multiply<T, I, 2, 4>(v, c, count, known, source + j, width, to + j);
      for (; j + kLane <= right; j += kLane) Multiply<T, I, 1, 8>(v, c, count, known, source + j, width, to + j);
      if (j < right) MultiplyNarrow(v, c, count, source + j, width, right - j, to + j);
    };
    if (!sparse.ForEachRow(threads, one_row, left > 0)) return false;
  }
  return width > 0 || sparse.ForEachRow(threads, [](int64_t, int64_t, int64_t) {});
}

// The dot products of one row with kCount others.
template <typename T, int kCount>
inline void Dots(const T* left, const T* const* right, int64_t depth, T* out) {
  Vec<T> sums[kCount] = {};
  int64_t k = 0;
  for (; k + kLanes<T> <= depth; k += kLanes<T>) {
    const Vec<T> x = Load(left + k);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sums[i] = Fma(x, Load(right[i] + k), sums[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    T sum = SumOfLanes<T>(sums[i]);
    for (int64_t rest = k; rest < depth; ++rest) sum += left[rest] * right[i][rest];
    out[i] = sum;
  }
}

// out[e] = left[row, :] . right[column, :] for each entry e; left [batch, rows, depth], right [batch, columns, depth].
template <typename T, typename I>
bool Sddmm(const Rows<I>& sparse, const T* left, const T* right, int64_t depth, T* out, int threads) {
  return sparse.ForEachRow(threads, [&](int64_t row, int64_t begin, int64_t end) {
    const T* one = left + row * depth;
    const T* others = right + sparse.MatrixOf(row) * sparse.columns * depth;
    const int64_t known = sparse.first[sparse.MatrixOf(row) + 1];
    const T* at[8];
    int64_t e = begin;
    for (; e + 8 <= end; e += 8) {
      for (int i = 0; i < 8; ++i) at[i] = others + sparse.cols[e + i] * depth;
      for (int64_t i = e + 8; i < std::min(e + 16, known); ++i) Prefetch(others + sparse.cols[i] * depth, depth);
      Dots<T, 8>(one, at, depth, out + e);
    }
    for (; e < end; ++e) {
      at[0] = others + sparse.cols[e] * depth;
      Dots<T, 1>(one, at, depth, out + e);
    }
  });
}

}  // namespace devkit
