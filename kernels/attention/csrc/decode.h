// One query or a few of each sequence against a cache of keys and values, read once: each thread takes a stretch of one
// key head's positions for all queries that read it, and what the stretches give is put together in their order.
#pragma once

#include <atomic>

#include "forward.h"

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kStretch = 1024;  // positions of a work item
constexpr int64_t kPositions = 32;  // positions whose scores are held at once, a multiple of kLanes

class Stretch {
 public:
  explicit Stretch(const Decode& d)
      : d_(d),
        rows_(d.heads / d.kv_heads * d.seqlen_q),
        padded_(RoundUp(d.head_dim, kLanes)),
        direct_(static_cast<Dtype>(d.dtype) == Dtype::kFloat32 && d.head_dim % kLanes == 0),
        queries_(rows_ * padded_),
        keys_(kPositions * padded_),
        values_(kPositions * padded_) {}

  // The rows' maxima, sums of weights and weighted sums [rows, 2 + padded] over positions first to before last.
  void Run(int64_t b, int64_t kv_head, Rows q, const void* keys, const void* values, int64_t first, int64_t last,
           float* to) {
    const int64_t group = d_.heads / d_.kv_heads, size = 2 + padded_;
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t head = kv_head * group + r / d_.seqlen_q;
      const Rows row = q.From((b * d_.seqlen_q + r % d_.seqlen_q) * d_.heads + head);
      row.As([&](auto typed) { PackScaledRow(typed[0], queries_.get() + r * padded_); });
      Fill(to + r * size, size, 0.0f);
      to[r * size] = -kInfinity;
    }
    for (int64_t position = first; position < last; position += kPositions) {
      const int64_t count = Least(kPositions, last - position);
      Load(b, kv_head, keys, position, count, keys_.get(), key_rows_);
      Load(b, kv_head, values, position, count, values_.get(), value_rows_);
      for (int64_t r = 0; r < rows_; ++r) {
        // The last query sees the last position.
        const int64_t own = d_.lengths[b] - d_.seqlen_q + r % d_.seqlen_q;
        const int64_t begin = d_.left >= kUnbounded ? 0 : Within(own - d_.left - position, 0, count);
        const int64_t end = Within(own + 1 - position, 0, count);
        if (begin < end) Attend(queries_.get() + r * padded_, begin, end, to + r * size);
      }
    }
  }

  int64_t padded() const { return padded_; }

 private:
  template <typename T>
  void PackScaledRow(const T* from, float* to) const {
    const float scale = static_cast<float>(d_.scale * kLog2E);
    for (int64_t j = 0; j < padded_; ++j) to[j] = j < d_.head_dim ? ToFloat(from[j]) * scale : 0.0f;
  }

  // Where the rows of some positions are; converted to float, if they are not.
  void Load(int64_t b, int64_t kv_head, const void* cache, int64_t position, int64_t count, float* scratch,
            const float** rows) const {
    const int64_t stride = d_.kv_heads * d_.head_dim;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t j = position + i;
      const int64_t page = d_.table == nullptr ? b : d_.table[b * d_.table_width + j / d_.page_size];
      const int64_t row = page * d_.page_size + (d_.table == nullptr ? j : j % d_.page_size);
      const Rows at = Rows::In(cache, row * stride + kv_head * d_.head_dim, stride, d_.dtype);
      if (direct_) {
        rows[i] = reinterpret_cast<const float*>(at.data);
        continue;
      }
      float* to = scratch + i * padded_;
      rows[i] = to;
      at.As([&](auto typed) {
        int64_t c = 0;
        for (; c + kLanes <= d_.head_dim; c += kLanes) Store(to + c, DEVKIT_ISA::Load(typed[0] + c));
        for (; c < padded_; ++c) to[c] = c < d_.head_dim ? ToFloat(typed[0][c]) : 0.0f;
      });
    }
  }

  void Attend(const float* query, int64_t begin, int64_t end, float* to) const {
    float scores[kPositions];
    for (int64_t i = 0; i < kPositions; ++i) scores[i] = -kInfinity;
    int64_t i = begin;
    for (; i + 4 <= end; i += 4) {
      Vec s0 = Zero(), s1 = Zero(), s2 = Zero(), s3 = Zero();
      for (int64_t j = 0; j < padded_; j += kLanes) {
        const Vec x = DEVKIT_ISA::Load(query + j);
        s0 = Fma(x, DEVKIT_ISA::Load(key_rows_[i] + j), s0);
        s1 = Fma(x, DEVKIT_ISA::Load(key_rows_[i + 1] + j), s1);
        s2 = Fma(x, DEVKIT_ISA::Load(key_rows_[i + 2] + j), s2);
        s3 = Fma(x, DEVKIT_ISA::Load(key_rows_[i + 3] + j), s3);
      }
      scores[i] = SumOfLanes(s0);
      scores[i + 1] = SumOfLanes(s1);
      scores[i + 2] = SumOfLanes(s2);
      scores[i + 3] = SumOfLanes(s3);
    }
    for (; i < end; ++i) {
      Vec sums = Zero();
      for (int64_t j = 0; j < padded_; j += kLanes)
        sums = Fma(DEVKIT_ISA::Load(query + j), DEVKIT_ISA::Load(key_rows_[i] + j), sums);
      scores[i] = SumOfLanes(sums);
    }
    Vec largest = DEVKIT_ISA::Load(scores);
    for (int64_t c = kLanes; c < kPositions; c += kLanes) largest = Max(largest, DEVKIT_ISA::Load(scores + c));
    const float before = to[0], here = MaxOfLanes(largest), now = before > here ? before : here;
    const float shift = now == -kInfinity ? 0.0f : now;
    Vec weights = Zero();
    for (int64_t c = 0; c < kPositions; c += kLanes) {
      const Vec p = Exp2(Sub(DEVKIT_ISA::Load(scores + c), Broadcast(shift)));
      Store(scores + c, p);
      weights = Add(weights, p);
    }
    const float factor = before == -kInfinity ? 0.0f : std::exp2(before - shift);
    to[0] = now;
    to[1] = to[1] * factor + SumOfLanes(weights);
    float* sums = to + 2;
    int64_t j = 0;
    for (; j + 4 * kLanes <= padded_; j += 4 * kLanes) AddValues<4>(scores, begin, end, j, factor, sums);
    for (; j < padded_; j += kLanes) AddValues<1>(scores, begin, end, j, factor, sums);
  }

  template <int64_t kCount>
  DEVKIT_INLINE void AddValues(const float* weights, int64_t begin, int64_t end, int64_t j, float factor,
                               float* sums) const {
    Vec s[kCount];
    for (int64_t c = 0; c < kCount; ++c) s[c] = Mul(DEVKIT_ISA::Load(sums + j + c * kLanes), Broadcast(factor));
    for (int64_t i = begin; i < end; ++i) {
      const Vec p = Broadcast(weights[i]);
      for (int64_t c = 0; c < kCount; ++c) s[c] = Fma(p, DEVKIT_ISA::Load(value_rows_[i] + j + c * kLanes), s[c]);
    }
    for (int64_t c = 0; c < kCount; ++c) Store(sums + j + c * kLanes, s[c]);
  }

  const Decode& d_;
  const int64_t rows_, padded_;
  const bool direct_;
  Buffer queries_, keys_, values_;
  const float *key_rows_[kPositions], *value_rows_[kPositions];
};

inline void DecodeAttention(const Decode& d, const void* q, const void* keys, const void* values, void* out,
                            float* lse) {
  const int64_t group = d.heads / d.kv_heads, rows = group * d.seqlen_q, padded = RoundUp(d.head_dim, kLanes);
  const int64_t size = 2 + padded;
  // Where the stretches of each sequence begin among those of all.
  const Buffer memory(2 * (d.batch + 1));
  int64_t* start = reinterpret_cast<int64_t*>(memory.get());
  start[0] = 0;
  for (int64_t b = 0; b < d.batch; ++b) start[b + 1] = start[b] + DivideUp(d.lengths[b], kStretch);
  const int64_t stretches = start[d.batch];
  const Buffer parts(stretches * d.kv_heads * rows * size);
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(d.threads)
  {
    Stretch worker(d);
    int64_t b = 0;
    for (int64_t item = next++; item < stretches * d.kv_heads; item = next++) {
      const int64_t stretch = item / d.kv_heads, kv_head = item % d.kv_heads;
      while (start[b + 1] <= stretch) ++b;
      const int64_t first = (stretch - start[b]) * kStretch;
      worker.Run(b, kv_head, Rows::In(q, 0, d.head_dim, d.dtype), keys, values, first,
                 Least(first + kStretch, d.lengths[b]), parts.get() + item * rows * size);
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t at = 0; at < d.batch * d.heads * d.seqlen_q; ++at) {
      const int64_t sequence = at / (d.heads * d.seqlen_q), head = at / d.seqlen_q % d.heads, i = at % d.seqlen_q;
      const int64_t r = head % group * d.seqlen_q + i;
      float sums[256 + kLanes], largest = -kInfinity, weight = 0;
      Fill(sums, padded, 0.0f);
      const auto part_of = [&](int64_t stretch) {
        return parts.get() + ((stretch * d.kv_heads + head / group) * rows + r) * size;
      };
      for (int64_t stretch = start[sequence]; stretch < start[sequence + 1]; ++stretch)
        largest = part_of(stretch)[0] > largest ? part_of(stretch)[0] : largest;
      for (int64_t stretch = start[sequence]; stretch < start[sequence + 1]; ++stretch) {
        const float* part = part_of(stretch);
        // A part without a maximum has seen nothing, or what is not a number.
        const float factor = part[0] == -kInfinity ? (part[1] == 0 ? 0.0f : 1.0f) : std::exp2(part[0] - largest);
        if (factor == 0) continue;
        weight += part[1] * factor;
        for (int64_t j = 0; j < padded; ++j) sums[j] += part[2 + j] * factor;
      }
      const bool blind = weight == 0;
      const float factor = blind ? 0.0f : 1.0f / weight;
      Unpack(sums, padded, 1, d.head_dim, nullptr, factor,
             Rows::In(out, ((sequence * d.seqlen_q + i) * d.heads + head) * d.head_dim, d.head_dim, d.dtype));
      lse[at] = blind ? -kInfinity
                      : static_cast<float>((largest == -kInfinity ? 0.0 : largest / kLog2E) +
                                           std::log(static_cast<double>(weight)));
    }
  }
}

// Reads memory as fast as it comes; what it returns is there so that the compiler reads too.
inline double Read(const void* memory, int64_t bytes, int threads) {
  const float* data = static_cast<const float*>(memory);
  const int64_t blocks = bytes / 4 / (8 * kLanes);
  double total = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : total) schedule(static)
  for (int64_t block = 0; block < blocks; block += 512) {
    Vec s[8];
    for (auto& x : s) x = Zero();
    for (int64_t i = block; i < Least(block + 512, blocks); ++i)
      for (int64_t c = 0; c < 8; ++c) s[c] = Add(s[c], Load(data + (i * 8 + c) * kLanes));
    for (const auto& x : s) total += SumOfLanes(x);
  }
  return total;
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
