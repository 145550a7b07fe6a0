// What is computed: softmax(scale q k^T + mask) v and its gradients, after "FlashAttention-2" (Dao, 2023), algorithms
// 1 and 2, with the column-wise masks of "FlashMask" (Wang et al., 2024). Plain data and declarations only: this file
// is read by sources compiled for different processors, and a function in it could be linked from the wrong one.
#pragma once

#include <cstdint>

namespace devkit {

enum class Dtype : int32_t { kFloat32, kBFloat16, kFloat16, kBool };

constexpr int64_t kUnbounded = INT64_MAX / 4;

// Added to the scores: element (b, h, i, j) at data + (b, h, i, j) * strides, in elements; a stride of 0 broadcasts.
// Of kBool, false hides a key.
struct Bias {
  const void* data;  // or null
  Dtype dtype;
  int64_t strides[4];
};

// The gradient of a Bias of floats, [batch or 1, heads or 1, seqlen_q, seqlen_k]: zeros that backward adds to, in one
// order whatever the threads. A stride of 0 is that of a dimension that the bias does not have.
struct BiasGradient {
  float* data;  // or null
  int64_t batch_stride, head_stride;
};

// FlashMask: column j hides the rows from columns[j][0] to before [j][1], and those from [j][2] to before [j][3].
// [batch, heads, seqlen_k, 4], where heads is 1, kv_heads or heads.
struct Columns {
  const int32_t* data;  // or null
  int64_t heads;
};

// Tensors are [batch, seqlen, heads, head_dim], or [total, heads, head_dim] where cu_q and cu_k say where each of
// `batch` sequences begins, [batch + 1].
struct Problem {
  int64_t batch, heads, kv_heads, head_dim;
  int64_t seqlen_q, seqlen_k;  // of each sequence; of the longest where there is cu_q
  int64_t total_q;             // rows of q: batch * seqlen_q, or cu_q[batch] and more
  const int32_t *cu_q, *cu_k;  // or null
  // Query i is opposite to key i + seqlen_k - seqlen_q (so that the last sees the last), or to key i with top_left;
  // it sees `left` keys before that one and `right` after it.
  int64_t left, right;
  int64_t top_left;
  double scale;
  Bias bias;
  Columns columns;
  int64_t dtype;  // a Dtype: of q, k, v, out and their gradients
  int64_t threads;
};

// One query or a few against a cache of keys and values, [batch, capacity, kv_heads, head_dim], or pages of it,
// [pages, page_size, kv_heads, head_dim], where page table[b][j / page_size] holds position j.
struct Decode {
  int64_t batch, heads, kv_heads, head_dim, seqlen_q;
  int64_t page_size;     // or capacity
  const int32_t* table;  // [batch, table_width], or null
  int64_t table_width;
  const int32_t* lengths;  // [batch]: how many positions hold keys, those of the queries (the last ones) among them
  int64_t left;
  double scale;
  int64_t dtype;
  int64_t threads;
};

// What one instruction set offers.
//
// lse [batch, heads, seqlen_q] or [heads, total_q]: each row's logarithm of the sum of exponentials, -inf for a row
// that sees nothing, whose out is 0. statistics, two such arrays: what forward subtracted from a row's scores (times
// log2 e), and the reciprocal of the sum of what was left, so that backward finds the very weights of forward; an lse
// of whatever origin gives them too, as (lse * log2 e, 1). dlse is the gradient of lse, or null. A gradient of the bias
// goes without columns and cu_q. Neither the number of threads nor their order changes a bit.
struct Kernels {
  const char* name;
  void (*forward)(const Problem& problem, const void* q, const void* k, const void* v, void* out, float* lse,
                  float* statistics);
  void (*backward)(const Problem& problem, const void* q, const void* k, const void* v, const void* out,
                   const float* statistics, const void* dout, const float* dlse, void* dq, void* dk, void* dv,
                   const BiasGradient& dbias);
  void (*decode)(const Decode& problem, const void* q, const void* keys, const void* values, void* out, float* lse);
  // GFLOP/s of `threads` threads together on registers alone.
  double (*peak)(int threads, double seconds);
  // Reads `bytes` of memory, for the rate at which that goes.
  double (*read)(const void* memory, int64_t bytes, int threads);
};

}  // namespace devkit
