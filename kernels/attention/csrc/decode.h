// One query or a few of each sequence against a cache of keys and values, read once and in the order in which it lies:
// each thread takes a stretch of positions, of as many key heads as leave every thread some items, for all queries that
// read it, and what the stretches give is put together in their order.
#pragma once

#include <atomic>

#include "forward.h"

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kStretch = 1024;  // positions of a work item
constexpr int64_t kPositions = 32;  // positions whose scores are held at once, a multiple of kLanes

constexpr int64_t kTogether = 4;    // positions that are read side by side

class Stretch {
 public:
  explicit Stretch(const Decode& d)
      : d_(d),
        rows_(d.heads / d.kv_heads * d.seqlen_q),
        padded_(RoundUp(d.head_dim, kLanes)),
        direct_(static_cast<Dtype>(d.dtype) == Dtype::kFloat32 && d.head_dim % kLanes == 0),
        ahead_(direct_ ? kTogether * d.kv_heads * d.head_dim : 0),
        queries_(d.kv_heads * rows_ * padded_),
        scores_(d.kv_heads * rows_ * kPositions),
        scratch_(direct_ ? 0 : kTogether * d.kv_heads * padded_) {}

  // The rows' maxima, sums of weights and weighted sums [heads, rows, 2 + padded] over positions first to before last,
  // of the key heads from kv_head to before kv_end.
  void Run(int64_t b, int64_t kv_head, int64_t kv_end, Rows q, const void* keys, const void* values, int64_t first,
           int64_t last, float* to) {
    b_ = b;
    kv_head_ = kv_head;
    heads_ = kv_end - kv_head;
    const int64_t group = d_.heads / d_.kv_heads, size = 2 + padded_;
    for (int64_t r = 0; r < heads_ * rows_; ++r) {
      const int64_t head = (kv_head + r / rows_) * group + r % rows_ / d_.seqlen_q;
      const Rows row = q.From((b * d_.seqlen_q + r % d_.seqlen_q) * d_.heads + head);
      row.As([&](auto typed) { PackScaledRow(typed[0], queries_.get() + r * padded_); });
      Fill(to + r * size, size, 0.0f);
      to[r * size] = -kInfinity;
    }
    for (position_ = first; position_ < last; position_ += kPositions) {
      count_ = Least(kPositions, last - position_);
      Score(keys);
      for (int64_t r = 0; r < heads_ * rows_; ++r) Weigh(r, to + r * size);
      AddValues(values, to + 2);
    }
  }

  int64_t padded() const { return padded_; }

 private:
  template <typename T>
  void PackScaledRow(const T* from, float* to) const {
    const float scale = static_cast<float>(d_.scale * kLog2E);
    for (int64_t j = 0; j < padded_; ++j) to[j] = j < d_.head_dim ? ToFloat(from[j]) * scale : 0.0f;
  }

  // The positions of the block that a row of queries sees: the last query sees the last position.
  DEVKIT_INLINE int64_t Begin(int64_t r) const {
    const int64_t own = d_.lengths[b_] - d_.seqlen_q + r % d_.seqlen_q;
    return d_.left >= kUnbounded ? 0 : Within(own - d_.left - position_, 0, count_);
  }
  DEVKIT_INLINE int64_t End(int64_t r) const {
    const int64_t own = d_.lengths[b_] - d_.seqlen_q + r % d_.seqlen_q;
    return Within(own + 1 - position_, 0, count_);
  }

  // Where the heads of kTogether positions from i on are, one head's padded_ floats after the other's; converted to
  // float, if they are not. Beyond the block's end the last one stands once more.
  DEVKIT_INLINE void Load(const void* cache, int64_t i, const float** rows) const {
    for (int64_t p = 0; p < kTogether; ++p) {
      if (i + p >= count_) {
        rows[p] = rows[p - 1];
        continue;
      }
      const int64_t j = position_ + i + p;
      const int64_t page = d_.table == nullptr ? b_ : d_.table[b_ * d_.table_width + j / d_.page_size];
      const int64_t row = page * d_.page_size + (d_.table == nullptr ? j : j % d_.page_size);
      const Rows at = Rows::In(cache, (row * d_.kv_heads + kv_head_) * d_.head_dim, d_.head_dim, d_.dtype);
      if (direct_) {
        rows[p] = reinterpret_cast<const float*>(at.data);
        continue;
      }
      float* to = scratch_.get() + p * d_.kv_heads * padded_;
      rows[p] = to;
      at.As([&](auto typed) {
        for (int64_t h = 0; h < heads_; ++h, to += padded_) {
          int64_t c = 0;
          for (; c + kLanes <= d_.head_dim; c += kLanes) {
            Store(to + c, DEVKIT_ISA::Load(typed[h] + c));
            __builtin_prefetch(typed[h] + c + kTogether * d_.kv_heads * d_.head_dim);
          }
          for (; c < padded_; ++c) to[c] = c < d_.head_dim ? ToFloat(typed[h][c]) : 0.0f;
        }
      });
    }
  }

  void Score(const void* keys) {
    const float* at[kTogether];
    for (int64_t i = 0; i < count_; i += kTogether) {
      Load(keys, i, at);
      for (int64_t h = 0; h < heads_; ++h) {
        int64_t r = h * rows_;
        for (; r + 2 <= (h + 1) * rows_; r += 2) Products<2>(r, i, at, h * padded_);
        if (r < (h + 1) * rows_) Products<1>(r, i, at, h * padded_);
      }
    }
  }

  // Scores of kCount rows of queries with kTogether positions.
  template <int64_t kCount>
  DEVKIT_INLINE void Products(int64_t row, int64_t i, const float* const* keys, int64_t head) {
    Vec s[kCount][kTogether];
    for (auto& sums : s)
      for (Vec& sum : sums) sum = Zero();
    const float* query = queries_.get() + row * padded_;
    for (int64_t j = 0; j < padded_; j += kLanes) {
      Vec x[kCount];
      for (int64_t r = 0; r < kCount; ++r) x[r] = DEVKIT_ISA::Load(query + r * padded_ + j);
      for (int64_t p = 0; p < kTogether; ++p) {
        const Vec key = DEVKIT_ISA::Load(keys[p] + head + j);
        __builtin_prefetch(keys[p] + head + j + ahead_);
        for (int64_t r = 0; r < kCount; ++r) s[r][p] = Fma(x[r], key, s[r][p]);
      }
    }
    for (int64_t r = 0; r < kCount; ++r)
      for (int64_t p = 0; p < kTogether; ++p) scores_.get()[(row + r) * kPositions + i + p] = SumOfLanes(s[r][p]);
  }

  // Scores of a row become weights, 0 where it does not see; what was summed with a smaller maximum is scaled down.
  void Weigh(int64_t row, float* to) {
    const int64_t begin = Begin(row), end = End(row);
    if (begin >= end) return;
    float* scores = scores_.get() + row * kPositions;
    for (int64_t i = 0; i < begin; ++i) scores[i] = -kInfinity;
    for (int64_t i = end; i < kPositions; ++i) scores[i] = -kInfinity;
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
    if (factor != 1)
      for (int64_t j = 0; j < padded_; j += kLanes)
        Store(to + 2 + j, Mul(DEVKIT_ISA::Load(to + 2 + j), Broadcast(factor)));
  }

  void AddValues(const void* values, float* sums) {
    const int64_t size = 2 + padded_;
    const float* at[kTogether];
    for (int64_t i = 0; i < count_; i += kTogether) {
      Load(values, i, at);
      for (int64_t h = 0; h < heads_; ++h) {
        for (int64_t r = h * rows_; r < (h + 1) * rows_; ++r) {
          const int64_t begin = Most(Begin(r), i), end = Least(End(r), i + kTogether);
          const float* weights = scores_.get() + r * kPositions + i;
          if (end - begin == kTogether) {
            AddWeighted<kTogether>(weights, at, h * padded_, sums + r * size);
          } else {
            for (int64_t p = begin; p < end; ++p) AddWeighted<1>(weights + p - i, at + p - i, h * padded_, sums + r * size);
          }
        }
      }
    }
  }

  template <int64_t kCount>
  DEVKIT_INLINE void AddWeighted(const float* weights, const float* const* values, int64_t head, float* sums) const {
    Vec w[kCount];
    for (int64_t p = 0; p < kCount; ++p) w[p] = Broadcast(weights[p]);
    for (int64_t j = 0; j < padded_; j += kLanes) {
      Vec sum = DEVKIT_ISA::Load(sums + j);
      for (int64_t p = 0; p < kCount; ++p) {
        sum = Fma(w[p], DEVKIT_ISA::Load(values[p] + head + j), sum);
        __builtin_prefetch(values[p] + head + j + ahead_);
      }
      Store(sums + j, sum);
    }
  }

  const Decode& d_;
  const int64_t rows_, padded_;
  const bool direct_;
  const int64_t ahead_;  // how far on the next positions are, in floats: four streams at once are not foreseen in time
  int64_t b_ = 0, kv_head_ = 0, heads_ = 0, position_ = 0, count_ = 0;
  Buffer queries_, scores_, scratch_;
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
  // Heads of an item: all where there are stretches enough.
  const int64_t cuts = Within(DivideUp(4 * d.threads, Most(stretches, 1)), 1, d.kv_heads);
  const int64_t heads = DivideUp(d.kv_heads, cuts), items = DivideUp(d.kv_heads, heads);
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(d.threads)
  {
    Stretch worker(d);
    int64_t b = 0;
    for (int64_t item = next++; item < stretches * items; item = next++) {
      const int64_t stretch = item / items, kv_head = item % items * heads;
      while (start[b + 1] <= stretch) ++b;
      const int64_t first = (stretch - start[b]) * kStretch;
      worker.Run(b, kv_head, Least(kv_head + heads, d.kv_heads), Rows::In(q, 0, d.head_dim, d.dtype), keys, values,
                 first, Least(first + kStretch, d.lengths[b]),
                 parts.get() + (stretch * d.kv_heads + kv_head) * rows * size);
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
