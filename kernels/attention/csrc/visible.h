// Which keys a query sees: ranges from the lengths, the causal mask and the window, hidden columns, and what is added.
#pragma once

#include "element.h"
#include "micro_kernel.h"

namespace devkit {
namespace DEVKIT_ISA {

// One sequence of a problem.
struct Sequence {
  int64_t index, first_q, first_k, seqlen_q, seqlen_k;
  int64_t low, high;  // query i sees the keys from i + low to before i + high, as far as there are such

  DEVKIT_INLINE int64_t Begin(int64_t i) const { return Within(i + low, 0, seqlen_k); }
  DEVKIT_INLINE int64_t End(int64_t i) const { return Within(i + high, 0, seqlen_k); }
  // The queries that see key j, or one of the keys from j to before `end`.
  DEVKIT_INLINE int64_t FirstQuery(int64_t j) const { return Within(j - high + 1, 0, seqlen_q); }
  DEVKIT_INLINE int64_t EndQuery(int64_t end) const { return Within(end - low, 0, seqlen_q); }
};

DEVKIT_INLINE Sequence SequenceOf(const Problem& p, int64_t b) {
  Sequence s{b, b * p.seqlen_q, b * p.seqlen_k, p.seqlen_q, p.seqlen_k, 0, 0};
  if (p.cu_q != nullptr) {
    s.first_q = p.cu_q[b];
    s.first_k = p.cu_k[b];
    s.seqlen_q = p.cu_q[b + 1] - s.first_q;
    s.seqlen_k = p.cu_k[b + 1] - s.first_k;
  }
  const int64_t shift = p.top_left ? 0 : s.seqlen_k - s.seqlen_q;
  s.low = p.left >= kUnbounded ? -kUnbounded : shift - p.left;
  s.high = p.right >= kUnbounded ? kUnbounded : shift + p.right + 1;
  return s;
}

// Where a row's statistics are.
DEVKIT_INLINE int64_t RowOf(const Problem& p, const Sequence& s, int64_t head) {
  return p.cu_q != nullptr ? head * p.total_q + s.first_q : (s.index * p.heads + head) * p.seqlen_q;
}

enum class Seen { kNone, kSome, kAll };

// The columns of one head of a FlashMask, and what is true of all columns of a panel.
class HiddenColumns {
 public:
  DEVKIT_INLINE HiddenColumns() = default;

  static int64_t Panels(int64_t seqlen_k) { return DivideUp(seqlen_k, kColumns); }
  // int32 values that Prepare writes.
  static int64_t Size(int64_t seqlen_k) { return Panels(seqlen_k) * (4 * kColumns + 8); }

  // `columns` [seqlen_k, 4] to `to`, [Size(seqlen_k)].
  static void Prepare(const int32_t* columns, int64_t seqlen_k, int32_t* to) {
    const int64_t panels = Panels(seqlen_k);
    int32_t* bounds = to + panels * 4 * kColumns;
    for (int64_t panel = 0; panel < panels; ++panel, bounds += 8) {
      for (int64_t side = 0; side < 4; ++side) {
        int32_t least = INT32_MAX, most = INT32_MIN;
        for (int64_t c = 0; c < kColumns; ++c) {
          const int64_t j = panel * kColumns + c;
          const int32_t x = j < seqlen_k ? columns[j * 4 + side] : 0;
          to[(panel * 4 + side) * kColumns + c] = x;
          if (j >= seqlen_k) continue;
          least = x < least ? x : least;
          most = x > most ? x : most;
        }
        bounds[2 * side] = least;
        bounds[2 * side + 1] = most;
      }
    }
  }

  DEVKIT_INLINE HiddenColumns(const int32_t* prepared, int64_t seqlen_k)
      : columns_(prepared), bounds_(prepared == nullptr ? nullptr : prepared + Panels(seqlen_k) * 4 * kColumns) {}

  DEVKIT_INLINE bool Any() const { return columns_ != nullptr; }

  // What the rows from `row` to before `end` see of a panel.
  DEVKIT_INLINE Seen OfPanel(int64_t panel, int64_t row, int64_t end) const {
    const int32_t* b = bounds_ + panel * 8;
    if ((b[1] <= row && b[2] >= end) || (b[5] <= row && b[6] >= end)) return Seen::kNone;
    return (b[0] >= end || b[3] <= row) && (b[4] >= end || b[7] <= row) ? Seen::kAll : Seen::kSome;
  }
  // Whether one of the rows sees one of the keys from `key` (a multiple of kColumns) to before `last`.
  bool Visible(int64_t key, int64_t last, int64_t row, int64_t end) const {
    for (int64_t panel = key / kColumns; panel * kColumns < last; ++panel)
      if (OfPanel(panel, row, end) != Seen::kNone) return true;
    return false;
  }
  DEVKIT_INLINE Vec Keep(Vec x, int64_t key, int64_t row, Vec other) const {
    const int32_t* at = columns_ + key / kColumns * 4 * kColumns + key % kColumns;
    x = KeepOutside(x, at, at + kColumns, static_cast<int32_t>(row), other);
    return KeepOutside(x, at + 2 * kColumns, at + 3 * kColumns, static_cast<int32_t>(row), other);
  }
  DEVKIT_INLINE bool Hides(int64_t row, int64_t key) const {
    const int32_t* at = columns_ + key / kColumns * 4 * kColumns + key % kColumns;
    return (at[0] <= row && row < at[kColumns]) || (at[2 * kColumns] <= row && row < at[3 * kColumns]);
  }

 private:
  const int32_t *columns_ = nullptr, *bounds_ = nullptr;
};

// What is added to the scores of one head.
class AddedBias {
 public:
  DEVKIT_INLINE AddedBias() = default;
  DEVKIT_INLINE AddedBias(const Bias& bias, int64_t b, int64_t h)
      : bias_(&bias), at_(b * bias.strides[0] + h * bias.strides[1]) {}

  DEVKIT_INLINE bool Any() const { return bias_ != nullptr && bias_->data != nullptr; }

  // log2 e times what is added to the scores of one query with `count` keys; 0 from there to kColumns.
  void Row(int64_t row, int64_t key, int64_t count, float* to) const {
    switch (bias_->dtype) {
      case Dtype::kFloat32:
        return RowOf<float>(row, key, count, to);
      case Dtype::kBFloat16:
        return RowOf<BFloat16>(row, key, count, to);
      case Dtype::kFloat16:
        return RowOf<Float16>(row, key, count, to);
      case Dtype::kBool:
        for (int64_t c = 0; c < kColumns; ++c)
          to[c] = c >= count || static_cast<const uint8_t*>(bias_->data)[At(row, key + c)] ? 0.0f : -kInfinity;
    }
  }
  bool Hides(int64_t row, int64_t key) const {
    float values[kColumns];
    Row(row, key, 1, values);
    return values[0] == -kInfinity;
  }

 private:
  DEVKIT_INLINE int64_t At(int64_t row, int64_t key) const {
    return at_ + row * bias_->strides[2] + key * bias_->strides[3];
  }
  template <typename T>
  DEVKIT_INLINE void RowOf(int64_t row, int64_t key, int64_t count, float* to) const {
    const T* from = static_cast<const T*>(bias_->data) + At(row, key);
    if (count == kColumns && bias_->strides[3] == 1) {
      for (int64_t c = 0; c < kColumns; c += kLanes) Store(to + c, Mul(Load(from + c), Broadcast(kLog2E)));
    } else {
      for (int64_t c = 0; c < kColumns; ++c)
        to[c] = c < count ? ToFloat(from[c * bias_->strides[3]]) * static_cast<float>(kLog2E) : 0.0f;
    }
  }
  const Bias* bias_ = nullptr;
  int64_t at_ = 0;
};

// The keys of a tile that some row of a strip sees, [begin, end), and those in between that all of its rows see,
// [whole_begin, whole_end), counted from the tile's first key.
struct Strip {
  int64_t begin, end, whole_begin, whole_end;
  DEVKIT_INLINE bool SeesAll(int64_t column) const { return column >= whole_begin && column + kColumns <= whole_end; }
};

// Keys that are hidden from nobody.
struct Open {
  int64_t begin, end;
};

// Everything that decides what one head of one sequence sees.
struct View {
  Sequence sequence;
  HiddenColumns columns;
  AddedBias bias;

  // The keys from `key` to before `last`, both ends given and taken, that some row from `row` to before `end` sees;
  // `key` stays a multiple of kColumns.
  DEVKIT_INLINE void Narrow(int64_t row, int64_t end, int64_t& key, int64_t& last) const {
    key = Most(key, RoundDown(sequence.Begin(row), kColumns));
    last = Least(last, sequence.End(end - 1));
    if (!columns.Any()) return;
    while (key < last && columns.OfPanel(key / kColumns, row, end) == Seen::kNone) key += kColumns;
    while (key < last && columns.OfPanel((last - 1) / kColumns, row, end) == Seen::kNone)
      last = RoundDown(last - 1, kColumns);
  }
  DEVKIT_INLINE bool Visible(int64_t row, int64_t end, int64_t key, int64_t last) const {
    Narrow(row, end, key, last);
    return key < last;
  }
  // The first run of panels from `key` to before `last` of which no column hides a key from the rows from `row` to
  // before `end`: what is found once for many strips.
  DEVKIT_INLINE Open OfColumns(int64_t row, int64_t end, int64_t key, int64_t last) const {
    if (!columns.Any()) return {key, last};
    const auto all = [&](int64_t at) { return columns.OfPanel(at / kColumns, row, end) == Seen::kAll; };
    while (key < last && !all(key)) key += kColumns;
    int64_t to = key;
    while (to < last && all(to)) to += kColumns;
    return {key, Least(to, last)};
  }
  // What the rows from `row` to before `end` see of the keys from `key` to before `last`; `open` is of more rows.
  DEVKIT_INLINE Strip OfStrip(int64_t row, int64_t end, int64_t key, int64_t last, const Open& open) const {
    int64_t from = key, to = last;
    Narrow(row, end, from, to);
    return {from - key, from < to ? to - key : from - key, Most(open.begin, sequence.Begin(end - 1)) - key,
            Least(sequence.End(row), open.end) - key};
  }
  DEVKIT_INLINE Seen OfPanel(int64_t row, int64_t end, int64_t key, int64_t last) const {
    Seen seen = columns.Any() ? columns.OfPanel(key / kColumns, row, end) : Seen::kAll;
    const bool whole = sequence.Begin(end - 1) <= key && Least(sequence.End(row), last) >= key + kColumns;
    return seen == Seen::kAll && !whole ? Seen::kSome : seen;
  }
  // x where query `row` sees the keys from `key` on, as far as `last`; `other` elsewhere.
  DEVKIT_INLINE Vec Keep(Vec x, int64_t row, int64_t key, int64_t last, Vec other) const {
    const int64_t low = Within(sequence.Begin(row) - key, 0, kLanes);
    const int64_t high = Within(Least(sequence.End(row), last) - key, 0, kLanes);
    x = KeepRange(x, static_cast<int>(low), static_cast<int>(high), other);
    return columns.Any() ? columns.Keep(x, key, row, other) : x;
  }
  bool Hides(int64_t row, int64_t key) const {
    return key < sequence.Begin(row) || key >= sequence.End(row) || (columns.Any() && columns.Hides(row, key)) ||
           (bias.Any() && bias.Hides(row, key));
  }
};

// The FlashMask of a problem, prepared.
class PreparedColumns {
 public:
  explicit PreparedColumns(const Problem& p)
      : heads_(p.columns.heads),
        seqlen_k_(p.seqlen_k),
        size_(p.columns.data == nullptr ? 0 : HiddenColumns::Size(p.seqlen_k)),
        memory_(size_ * p.batch * Most(heads_, 1)) {
    if (size_ == 0) return;
    const int64_t count = p.batch * heads_;
#pragma omp parallel for num_threads(p.threads) schedule(static)
    for (int64_t i = 0; i < count; ++i)
      HiddenColumns::Prepare(p.columns.data + i * p.seqlen_k * 4, p.seqlen_k, At(i));
  }
  View Of(const Problem& p, const Sequence& s, int64_t head) const {
    View view{s, HiddenColumns(), AddedBias(p.bias, s.index, head)};
    if (size_ > 0) view.columns = HiddenColumns(At(s.index * heads_ + head * heads_ / p.heads), seqlen_k_);
    return view;
  }

 private:
  int32_t* At(int64_t i) const { return reinterpret_cast<int32_t*>(memory_.get()) + i * size_; }
  int64_t heads_, seqlen_k_, size_;
  Buffer memory_;
};

}  // namespace DEVKIT_ISA
}  // namespace devkit
