// One query or a few of each sequence against a cache of keys and values, read once and in the order in which it lies:
// each thread takes a stretch of positions, of as many key heads as leave every thread some items, for all queries that
// read it, and what the stretches give is put together in their order.
#pragma once

#include <atomic>

#include "forward.h"

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kStretch = 512;   // positions of a work item
constexpr int64_t kPositions = 64;  // positions whose scores are held at once
static_assert(kPositions % 4 == 0 && kLanes % 4 == 0);

// The first position of a sequence that one of its queries sees, rounded down to where a stretch begins.
DEVKIT_INLINE int64_t FirstSeen(const Decode& d, int64_t b) {
  return d.left >= kUnbounded ? 0 : RoundDown(Most(0, d.lengths[b] - d.seqlen_q - d.left), kStretch);
}

// What a stretch gives for a row of queries: the weighted sum of values [padded], then the largest score and the sum of
// the weights.
DEVKIT_INLINE int64_t SizeOfPart(const Decode& d) { return RoundUp(d.head_dim, kLanes) + kLanes; }

template <typename T>
class Stretch {
 public:
  Stretch(const Decode& d, const T* keys, const T* values)
      : d_(d),
        keys_(keys),
        values_(values),
        rows_of_head_(d.heads / d.kv_heads * d.seqlen_q),
        dim_(d.head_dim),
        whole_(RoundDown(dim_, kLanes)),
        padded_(RoundUp(dim_, kLanes)),
        together_(rows_of_head_ == 1 ? 4 : 2),
        ahead_(together_ * d.kv_heads * dim_),
        most_rows_(RoundUp(d.kv_heads * rows_of_head_, kLanes)),
        queries_(most_rows_ * padded_),
        scores_(kPositions * most_rows_),
        largest_(most_rows_),
        weight_(most_rows_),
        factor_(most_rows_),
        ranges_(most_rows_ * 2) {}

  // The parts [heads, rows, SizeOfPart] over positions first to before last, of the key heads from kv_head to before
  // kv_end.
  void Run(int64_t b, int64_t kv_head, int64_t kv_end, const T* q, int64_t first, int64_t last, float* to) {
    b_ = b;
    kv_head_ = kv_head;
    heads_ = kv_end - kv_head;
    rows_ = heads_ * rows_of_head_;
    stride_ = RoundUp(rows_, kLanes);
    end_ = last;
    const int64_t group = d_.heads / d_.kv_heads, size = SizeOfPart(d_);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t head = (kv_head + r / rows_of_head_) * group + r % rows_of_head_ / d_.seqlen_q;
      const int64_t query = b * d_.seqlen_q + r % d_.seqlen_q;
      PackScaledRow(q + (query * d_.heads + head) * dim_, queries_.get() + r * padded_);
    }
    Fill(to, rows_ * size, 0.0f);
    Fill(scores_.get(), kPositions * stride_, 0.0f);
    Fill(largest_.get(), stride_, -kInfinity);
    Fill(weight_.get(), stride_, 0.0f);
    for (position_ = first; position_ < last; position_ += kPositions) {
      count_ = Least(kPositions, last - position_);
      Find();
      Score();
      Weigh(to);
      AddValues(to);
    }
    for (int64_t r = 0; r < rows_; ++r) {
      to[r * size + padded_] = largest_.get()[r];
      to[r * size + padded_ + 1] = weight_.get()[r];
    }
  }

 private:
  struct Range {
    int32_t begin, end;
  };

  void PackScaledRow(const T* from, float* to) const {
    const float scale = static_cast<float>(d_.scale * kLog2E);
    for (int64_t j = 0; j < padded_; ++j) to[j] = j < dim_ ? ToFloat(from[j]) * scale : 0.0f;
  }

  // Where the positions of the block begin (beyond the stretch, the last one again), and what each row of queries sees
  // of them.
  void Find() {
    for (int64_t i = 0; i < kPositions; ++i) {
      const int64_t j = Least(position_ + i, end_ - 1);
      const int64_t page = d_.table == nullptr ? b_ : d_.table[b_ * d_.table_width + j / d_.page_size];
      const int64_t row = page * d_.page_size + (d_.table == nullptr ? j : j % d_.page_size);
      at_[i] = (row * d_.kv_heads + kv_head_) * dim_;
    }
    Range* ranges = reinterpret_cast<Range*>(ranges_.get());
    all_seen_ = true;
    for (int64_t r = 0; r < rows_; ++r) {
      // The last query sees the last position.
      const int64_t own = d_.lengths[b_] - d_.seqlen_q + r % d_.seqlen_q;
      const int64_t begin = d_.left >= kUnbounded ? 0 : Within(own - d_.left - position_, 0, count_);
      const int64_t end = Within(own + 1 - position_, 0, count_);
      ranges[r] = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
      all_seen_ = all_seen_ && begin == 0 && end == count_;
    }
  }

  DEVKIT_INLINE Range RangeOf(int64_t r) const { return reinterpret_cast<const Range*>(ranges_.get())[r]; }

  // A part of a row, 0 beyond head_dim.
  DEVKIT_INLINE Vec LoadRest(const T* row) const {
    float rest[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) rest[i] = whole_ + i < dim_ ? ToFloat(row[whole_ + i]) : 0.0f;
    return DEVKIT_ISA::Load(rest);
  }

  // Rows that share a key head share what is loaded of it.
  void Score() {
    for (int64_t i = 0; i < count_; i += together_) {
      for (int64_t h = 0; h < heads_; ++h) {
        int64_t r = h * rows_of_head_;
        const int64_t end = r + rows_of_head_;
        if (rows_of_head_ == 1) {
          Products<1, 4>(r, i, h);
          continue;
        }
        for (; r + 4 <= end; r += 4) Products<4, 2>(r, i, h);
        for (; r < end; ++r) Products<1, 2>(r, i, h);
      }
    }
  }

  // Scores of kCount rows of queries with kTogether positions.
  template <int64_t kCount, int64_t kTogether>
  DEVKIT_INLINE void Products(int64_t row, int64_t i, int64_t head) {
    const T* keys[kTogether];
    Vec s[kTogether][kCount];
    for (int64_t p = 0; p < kTogether; ++p) {
      keys[p] = keys_ + at_[i + p] + head * dim_;
      for (Vec& sum : s[p]) sum = Zero();
    }
    const float* query = queries_.get() + row * padded_;
    for (int64_t j = 0; j < whole_; j += kLanes) {
      Vec x[kCount];
      for (int64_t r = 0; r < kCount; ++r) x[r] = DEVKIT_ISA::Load(query + r * padded_ + j);
      for (int64_t p = 0; p < kTogether; ++p) {
        const Vec key = DEVKIT_ISA::Load(keys[p] + j);
        __builtin_prefetch(keys[p] + j + ahead_);
        for (int64_t r = 0; r < kCount; ++r) s[p][r] = Fma(x[r], key, s[p][r]);
      }
    }
    if (whole_ < dim_) {
      for (int64_t p = 0; p < kTogether; ++p) {
        const Vec key = LoadRest(keys[p]);
        for (int64_t r = 0; r < kCount; ++r)
          s[p][r] = Fma(DEVKIT_ISA::Load(query + r * padded_ + whole_), key, s[p][r]);
      }
    }
    float* to = scores_.get() + i * stride_ + row;
    if constexpr (kCount == 4) {
      for (int64_t p = 0; p < kTogether; ++p) SumsOfLanes(s[p][0], s[p][1], s[p][2], s[p][3], to + p * stride_);
    } else if constexpr (kTogether == 4) {
      float sums[4];
      SumsOfLanes(s[0][0], s[1][0], s[2][0], s[3][0], sums);
      for (int64_t p = 0; p < 4; ++p) to[p * stride_] = sums[p];
    } else {
      for (int64_t p = 0; p < kTogether; ++p) to[p * stride_] = SumOfLanes(s[p][0]);
    }
  }

  // Scores become weights, 0 where a row does not see; what was summed with a smaller maximum is scaled down. Lanes are
  // rows.
  void Weigh(float* to) {
    float* scores = scores_.get();
    for (int64_t r = 0; r < (all_seen_ ? 0 : rows_); ++r) {
      const Range range = RangeOf(r);
      for (int64_t i = 0; i < count_; ++i)
        if (i < range.begin || i >= range.end) scores[i * stride_ + r] = -kInfinity;
    }
    for (int64_t r = 0; r < stride_; r += kLanes) {
      const Vec before = DEVKIT_ISA::Load(largest_.get() + r);
      Vec now = before;
      for (int64_t i = 0; i < count_; ++i) now = Max(now, DEVKIT_ISA::Load(scores + i * stride_ + r));
      // Of rows that have seen nothing yet: -inf less -inf is not a number.
      const Vec shift = Max(Broadcast(-std::numeric_limits<float>::max()), now);
      Vec sum = Zero();
      for (int64_t i = 0; i < count_; ++i) {
        const Vec p = Exp2(Sub(DEVKIT_ISA::Load(scores + i * stride_ + r), shift));
        Store(scores + i * stride_ + r, p);
        sum = Add(sum, p);
      }
      const Vec factor = Exp2(Sub(before, shift));
      Store(weight_.get() + r, Fma(DEVKIT_ISA::Load(weight_.get() + r), factor, sum));
      Store(largest_.get() + r, now);
      Store(factor_.get() + r, factor);
    }
    for (int64_t r = 0; r < rows_; ++r, to += SizeOfPart(d_)) {
      const float factor = factor_.get()[r];
      if (factor == 1) continue;
      for (int64_t j = 0; j < padded_; j += kLanes) Store(to + j, Mul(DEVKIT_ISA::Load(to + j), Broadcast(factor)));
    }
  }

  void AddValues(float* sums) {
    const int64_t size = SizeOfPart(d_);
    if (!all_seen_) return AddSeenValues(sums);
    for (int64_t i = 0; i < count_; i += together_) {
      for (int64_t h = 0; h < heads_; ++h) {
        int64_t r = h * rows_of_head_;
        const int64_t end = r + rows_of_head_;
        if (i + together_ > count_) {
          for (; r < end; ++r)
            for (int64_t p = i; p < count_; ++p) AddWeighted<1, 1>(r, p, h, sums + r * size);
        } else if (rows_of_head_ == 1) {
          AddWeighted<1, 4>(r, i, h, sums + r * size);
        } else {
          for (; r + 4 <= end; r += 4) AddWeighted<4, 2>(r, i, h, sums + r * size);
          for (; r < end; ++r) AddWeighted<1, 2>(r, i, h, sums + r * size);
        }
      }
    }
  }

  // A position that a row does not see is left out: 0 times what is not a number is not 0.
  void AddSeenValues(float* sums) {
    for (int64_t i = 0; i < count_; ++i)
      for (int64_t r = 0; r < rows_; ++r)
        if (RangeOf(r).begin <= i && i < RangeOf(r).end)
          AddWeighted<1, 1>(r, i, r / rows_of_head_, sums + r * SizeOfPart(d_));
  }

  // Adds kCount positions' values to the weighted sums of kOfHead rows that share a key head.
  template <int64_t kOfHead, int64_t kCount>
  DEVKIT_INLINE void AddWeighted(int64_t row, int64_t i, int64_t head, float* sums) const {
    const int64_t size = padded_ + kLanes;
    const T* values[kCount];
    Vec w[kOfHead][kCount];
    for (int64_t p = 0; p < kCount; ++p) {
      values[p] = values_ + at_[i + p] + head * dim_;
      for (int64_t r = 0; r < kOfHead; ++r) w[r][p] = Broadcast(scores_.get()[(i + p) * stride_ + row + r]);
    }
    const auto add = [&](int64_t j, const Vec* value) {
      for (int64_t r = 0; r < kOfHead; ++r) {
        Vec sum = DEVKIT_ISA::Load(sums + r * size + j);
        for (int64_t p = 0; p < kCount; ++p) sum = Fma(w[r][p], value[p], sum);
        Store(sums + r * size + j, sum);
      }
    };
    Vec value[kCount];
    for (int64_t j = 0; j < whole_; j += kLanes) {
      for (int64_t p = 0; p < kCount; ++p) {
        value[p] = DEVKIT_ISA::Load(values[p] + j);
        __builtin_prefetch(values[p] + j + ahead_);
      }
      add(j, value);
    }
    if (whole_ == dim_) return;
    for (int64_t p = 0; p < kCount; ++p) value[p] = LoadRest(values[p]);
    add(whole_, value);
  }

  const Decode& d_;
  const T *keys_, *values_;
  const int64_t rows_of_head_, dim_, whole_, padded_, together_;
  const int64_t ahead_;  // how far on the next positions lie: several streams at once are not foreseen in time
  const int64_t most_rows_;
  int64_t b_ = 0, kv_head_ = 0, heads_ = 0, rows_ = 0, stride_ = 0, position_ = 0, count_ = 0, end_ = 0;
  int64_t at_[kPositions];  // where a position's heads begin, in elements
  bool all_seen_ = true;
  Buffer queries_, scores_, largest_, weight_, factor_, ranges_;
};

inline void DecodeAttention(const Decode& d, const void* q, const void* keys, const void* values, void* out,
                            float* lse) {
  const int64_t group = d.heads / d.kv_heads, rows = group * d.seqlen_q, padded = RoundUp(d.head_dim, kLanes);
  const int64_t size = SizeOfPart(d);
  // Where the stretches of each sequence begin among those of all.
  const Buffer memory(2 * (d.batch + 1));
  int64_t* start = reinterpret_cast<int64_t*>(memory.get());
  start[0] = 0;
  for (int64_t b = 0; b < d.batch; ++b)
    start[b + 1] = start[b] + DivideUp(d.lengths[b] - FirstSeen(d, b), kStretch);
  const int64_t stretches = start[d.batch];
  const Buffer parts(stretches * d.kv_heads * rows * size);
  // Heads of an item: all where there are stretches enough.
  const int64_t cuts = Within(DivideUp(4 * d.threads, Most(stretches, 1)), 1, d.kv_heads);
  const int64_t heads = DivideUp(d.kv_heads, cuts), items = DivideUp(d.kv_heads, heads);
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(d.threads)
  {
    WithElement(d.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      Stretch<T> worker(d, static_cast<const T*>(keys), static_cast<const T*>(values));
      int64_t b = 0;
      for (int64_t item = next++; item < stretches * items; item = next++) {
        const int64_t stretch = item / items, kv_head = item % items * heads;
        while (start[b + 1] <= stretch) ++b;
        const int64_t first = FirstSeen(d, b) + (stretch - start[b]) * kStretch;
        worker.Run(b, kv_head, Least(kv_head + heads, d.kv_heads), static_cast<const T*>(q), first,
                   Least(first + kStretch, d.lengths[b]),
                   parts.get() + (stretch * d.kv_heads + kv_head) * rows * size);
      }
    });
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
        largest = part_of(stretch)[padded] > largest ? part_of(stretch)[padded] : largest;
      for (int64_t stretch = start[sequence]; stretch < start[sequence + 1]; ++stretch) {
        const float* part = part_of(stretch);
        const float part_largest = part[padded], part_weight = part[padded + 1];
        // A part without a maximum has seen nothing, or what is not a number.
        const float factor =
            part_largest == -kInfinity ? (part_weight == 0 ? 0.0f : 1.0f) : std::exp2(part_largest - largest);
        if (factor == 0) continue;
        weight += part_weight * factor;
        for (int64_t j = 0; j < padded; ++j) sums[j] += part[j] * factor;
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
