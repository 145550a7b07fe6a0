// Flash attention for processors with AVX2 and FMA: softmax(q k^T / sqrt(head_dim)) v and its gradients, in memory
// linear in the sequence length. T is float or BFloat16, and all is computed in float. After "FlashAttention-2" (Dao,
// 2023), algorithms 1 and 2.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "pack.h"

namespace devkit {

struct Problem {
  int64_t batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim;
  bool causal;
  int threads;

  // How many keys query i sees. Causal masks are aligned at the bottom right, as in FlashAttention-2: the last query
  // sees every key, whatever the two lengths are.
  int64_t Visible(int64_t i) const {
    return causal ? std::min(seqlen_k, std::max<int64_t>(0, i + 1 + seqlen_k - seqlen_q)) : seqlen_k;
  }
  // The first query that sees key j.
  int64_t FirstQuery(int64_t j) const { return causal ? std::max<int64_t>(0, j + seqlen_q - seqlen_k) : 0; }

  int64_t PaddedDim() const { return RoundUp(head_dim, kColumns); }
  double Scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }

  // Where row 0 of a head starts in [batch, seqlen, heads, head_dim].
  int64_t QueryHead(int64_t b, int64_t h) const { return (b * seqlen_q * heads + h) * head_dim; }
  int64_t KeyHead(int64_t b, int64_t h) const { return (b * seqlen_k * kv_heads + h) * head_dim; }
  int64_t QueryStride() const { return heads * head_dim; }
  int64_t KeyStride() const { return kv_heads * head_dim; }
};

constexpr double kLog2E = 1.4426950408889634;

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<float, Free>;

inline Buffer Allocate(int64_t count) {
  auto* memory = static_cast<float*>(std::aligned_alloc(64, RoundUp(std::max<int64_t>(count, 1), 16) * sizeof(float)));
  if (memory == nullptr) throw std::bad_alloc();
  return Buffer(memory);
}

// q, out: [batch, seqlen_q, heads, head_dim]; k, v: [batch, seqlen_k, kv_heads, head_dim]; lse: [batch, heads,
// seqlen_q], the natural logarithm of each row's sum of exponentials (+inf for a query that sees no key, whose output
// is 0).
template <typename T>
void Forward(const Problem& problem, const T* q, const T* k, const T* v, T* out, float* lse);

// The gradients of q, k and v from that of out; each of the shape of what it is the gradient of. The result does not
// depend on which thread ran when, nor on their number.
template <typename T>
void Backward(const Problem& problem, const T* q, const T* k, const T* v, const T* out, const float* lse, const T* dout,
              T* dq, T* dk, T* dv);

}  // namespace devkit
