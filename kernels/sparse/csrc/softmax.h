// Softmax over the stored entries of each row, and its gradient.
#pragma once

#include <cmath>
#include <limits>

#include "rows.h"

namespace devkit {

// p = exp(x - max) / sum over a row. An entry of -inf weighs nothing, and a row of them alone gives zeros; what is not a
// number makes its row so.
template <typename T, typename I>
bool Softmax(const Rows<I>& sparse, const T* x, T* p, int threads) {
  return sparse.ForEachRow(threads, [&](int64_t, int64_t begin, int64_t end) {
    T largest = -std::numeric_limits<T>::infinity();
    bool number = true;
    for (int64_t e = begin; e < end; ++e) {
      largest = std::max(largest, x[e]);
      number &= x[e] == x[e];
    }
    if (!number) {
      std::fill(p + begin, p + end, std::numeric_limits<T>::quiet_NaN());
      return;
    }
    if (largest == -std::numeric_limits<T>::infinity()) {
      std::fill(p + begin, p + end, T{0});
      return;
    }
    T sum = 0;
    for (int64_t e = begin; e < end; ++e) {
      p[e] = std::exp(x[e] - largest);
      sum += p[e];
    }
    for (int64_t e = begin; e < end; ++e) p[e] /= sum;
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
