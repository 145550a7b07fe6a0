// Softmax over the stored entries of each row, and its gradient.
#pragma once

#include <cmath>
#include <limits>

#include "rows.h"
#include "vector.h"

namespace devkit {

// exp(x) for x <= 0: 2^n 2^f with n the nearest integer, 2^f by a polynomial with a relative error of 2e-7; what would be
// below the smallest normal number is 0.
inline Vec<float> ExpOfNegative(Vec<float> x) {
  typedef int32_t Ints __attribute__((vector_size(32)));
  const Vec<float> magic = Broadcast(12582912.0f + 127.0f), least = Broadcast(-87.3f);
  const Ints vanishes = x < least;
  const Vec<float> y = vanishes ? least : x, log2e = Broadcast(1.4426950408889634f);
  const Vec<float> shifted = Fma(y, log2e, magic);  // its low bits are n + 127: in the exponent's place they are 2^n
  const Vec<float> f = Fma(y, log2e, magic - shifted) + y * Broadcast(1.9259630e-8f);  // what log2e lacks as a float
  Vec<float> p = Broadcast(0.0013264727f);
  p = Fma(p, f, Broadcast(0.009671513f));
  p = Fma(p, f, Broadcast(0.055507336f));
  p = Fma(p, f, Broadcast(0.24022242f));
  p = Fma(p, f, Broadcast(0.693147f));
  p = Fma(p, f, Broadcast(1.0f));
  const Vec<float> result = p * (Vec<float>)((Ints)shifted << 23);
  return vanishes ? Vec<float>{} : result;
}

inline Vec<double> ExpOfNegative(Vec<double> x) {
  for (int64_t i = 0; i < kLanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

// p = exp(x - largest), and its sum. The last entries go through a whole vector too, so that equal entries of a row have
// equal weights.
template <typename T>
inline T Exponentials(const T* x, int64_t count, T largest, T* p) {
  Vec<T> sums{};
  int64_t e = 0;
  for (; e + kLanes<T> <= count; e += kLanes<T>) {
    const Vec<T> weights = ExpOfNegative(Load(x + e) - Broadcast(largest));
    sums += weights;
    Store(p + e, weights);
  }
  if (e < count) {
    T rest[kLanes<T>];
    std::fill_n(rest, kLanes<T>, -std::numeric_limits<T>::infinity());
    std::copy(x + e, x + count, rest);
    const Vec<T> weights = ExpOfNegative(Load(rest) - Broadcast(largest));
    sums += weights;
    Store(rest, weights);
    std::copy_n(rest, count - e, p + e);
  }
  return SumOfLanes<T>(sums);
}

// p = exp(x - max) / sum over a row. An entry of -inf weighs nothing, and a row of them alone gives zeros; what is not a
// number, or more than all, makes its row so.
template <typename T, typename I>
bool Softmax(const Rows<I>& sparse, const T* x, T* p, int threads) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  return sparse.ForEachRow(threads, [&](int64_t, int64_t begin, int64_t end) {
    T largest = -kInfinity, sum = 0;
    for (int64_t e = begin; e < end; ++e) largest = x[e] > largest || x[e] != x[e] ? x[e] : largest;
    if (largest == -kInfinity) {
      std::fill(p + begin, p + end, T{0});
    } else if (largest != largest || largest == kInfinity) {
      std::fill(p + begin, p + end, std::numeric_limits<T>::quiet_NaN());
    } else {
      sum = Exponentials(x + begin, end - begin, largest, p + begin);
      for (int64_t e = begin; e < end; ++e) p[e] /= sum;
    }
  });
}

// dx = p (dp - sum of p dp over the row)
template <typename T, typename I>
bool SoftmaxGradient(const Rows<I>& sparse, const T* p, const T* dp, T* dx, int threads) {
  return sparse.ForEachRow(threads, [&](int64_t, int64_t begin, int64_t end) {
    T sum = 0;
    for (int64_t e = begin; e < end; ++e) sum += p[e] * dp[e];
    for (int64_t e = begin; e < end; ++e) dx[e] = p[e] * (dp[e] - sum);
  });
}

}  // namespace devkit
