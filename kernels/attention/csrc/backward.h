// dq, dk and dv, a block of keys at a time: the weights are computed again from q, k and the forward pass's statistics.
#pragma once

#include <sched.h>

#include <atomic>

#include "forward.h"

namespace devkit {
namespace DEVKIT_ISA {

// Keys of a work item (a multiple of kRows and of kColumns) and queries whose weights are held at once (a multiple of
// kRows): measured best, or within 3 % of it, for head sizes of 64 to 256.
constexpr int64_t kKeys = 192;
constexpr int64_t kQueries = 48;
static_assert(kKeys % kRows == 0 && kKeys % kColumns == 0 && kQueries % kRows == 0 && kRows % 2 == 0);

// Whether some query of a tile sees some key of a block.
DEVKIT_INLINE bool Meet(const View& view, int64_t tile, int64_t block) {
  const int64_t row = tile * kQueries, key = block * kKeys;
  return view.Visible(row, Least(row + kQueries, view.sequence.seqlen_q), key,
                      Least(key + kKeys, view.sequence.seqlen_k));
}

// The key blocks that a tile of queries meets add their shares to its dq in turn: so a sum does not depend on which
// thread came first.
class Turns {
 public:
  explicit Turns(int64_t count) : memory_(count * 2), turn_(reinterpret_cast<std::atomic<int64_t>*>(memory_.get())) {}

  void Start(int64_t at, const View& view, int64_t tile) { turn_[at].store(After(view, tile, -1)); }
  void WaitFor(int64_t at, int64_t block) {
    for (int64_t spins = 1; turn_[at].load(std::memory_order_acquire) != block; ++spins) {
      if (spins % 1024 == 0) sched_yield();
      Pause();
    }
  }
  void Next(int64_t at, const View& view, int64_t tile, int64_t block) {
    turn_[at].store(After(view, tile, block), std::memory_order_release);
  }

 private:
  static int64_t After(const View& view, int64_t tile, int64_t block) {
    const int64_t blocks = DivideUp(view.sequence.seqlen_k, kKeys);
    do ++block;
    while (block < blocks && !Meet(view, tile, block));
    return block;
  }
  Buffer memory_;
  std::atomic<int64_t>* turn_;
};

// The heads that share a bias add their shares to its gradient in turn, the batch's first sequence first: a turn for
// each of its slices, tiles of queries and blocks of keys.
class BiasTurns {
 public:
  BiasTurns(const Problem& p, const BiasGradient& gradient)
      : gradient_(gradient),
        heads_(p.heads),
        slices_of_batch_(gradient.head_stride == 0 ? 1 : p.heads),
        tiles_(DivideUp(p.seqlen_q, kQueries)),
        blocks_(DivideUp(p.seqlen_k, kKeys)),
        shared_(gradient.data != nullptr && (gradient.batch_stride == 0 || gradient.head_stride == 0)),
        count_(shared_ ? (gradient.batch_stride == 0 ? 1 : p.batch) * slices_of_batch_ * tiles_ * blocks_ : 0),
        memory_(count_ * 2),
        turn_(reinterpret_cast<std::atomic<int64_t>*>(memory_.get())) {
    for (int64_t i = 0; i < count_; ++i) turn_[i].store(0, std::memory_order_relaxed);
  }

  void WaitFor(int64_t b, int64_t h, int64_t tile, int64_t block) {
    if (!shared_) return;
    const int64_t before = gradient_.head_stride != 0 ? b : gradient_.batch_stride != 0 ? h : b * heads_ + h;
    const std::atomic<int64_t>& turn = turn_[At(b, h, tile, block)];
    for (int64_t spins = 1; turn.load(std::memory_order_acquire) != before; ++spins) {
      if (spins % 1024 == 0) sched_yield();
      Pause();
    }
  }
  void Next(int64_t b, int64_t h, int64_t tile, int64_t block) {
    if (shared_) turn_[At(b, h, tile, block)].fetch_add(1, std::memory_order_release);
  }

 private:
  int64_t At(int64_t b, int64_t h, int64_t tile, int64_t block) const {
    const int64_t slice =
        (gradient_.batch_stride == 0 ? 0 : b * slices_of_batch_) + (gradient_.head_stride == 0 ? 0 : h);
    return (slice * tiles_ + tile) * blocks_ + block;
  }
  const BiasGradient& gradient_;
  const int64_t heads_, slices_of_batch_, tiles_, blocks_;
  const bool shared_;
  const int64_t count_;
  Buffer memory_;
  std::atomic<int64_t>* turn_;
};

struct QueryHead {
  View view;
  int64_t index;
  int64_t turn;  // of its first tile
  Rows q, dout;
  const float *shift, *reciprocal, *delta;
  float* dq;
  float* dbias;  // [seqlen_q, seqlen_k], or null
};

template <class Word>
class KeyBlock {
 public:
  KeyBlock(const Problem& problem, Turns& turns, BiasTurns& bias_turns)
      : problem_(problem),
        turns_(turns),
        bias_turns_(bias_turns),
        scale_(problem.scale),
        dim_(problem.head_dim),
        words_(DivideUp(dim_, Word::kPerWord)),
        padded_(RoundUp(dim_, kColumns)),
        keys_transposed_(kKeys * words_),
        values_transposed_(kKeys * words_),
        keys_(kKeys / Word::kPerWord * padded_),
        dk_(kKeys * padded_),
        dv_(kKeys * padded_),
        queries_left_(Word::kPerWord > 1 ? kQueries * words_ : 1),
        dout_left_(Word::kPerWord > 1 ? kQueries * words_ : 1),
        queries_(kQueries / Word::kPerWord * padded_),
        dout_(kQueries / Word::kPerWord * padded_),
        dq_(kQueries * padded_),
        shift_(kQueries),
        reciprocal_(kQueries),
        delta_(kQueries),
        weights_(kQueries * kKeys),
        dscores_(kQueries * kKeys),
        dscores_pairs_(Word::kPerWord > 1 ? kQueries * kKeys : 1),
        scratch_(Word::kPerWord > 1 ? kKeys * words_ : 1) {}

  void Start(const Sequence& sequence, int64_t block, Rows k, Rows v) {
    block_ = block;
    key_ = block * kKeys;
    count_ = Least(kKeys, sequence.seqlen_k - key_);
    Pack<Word>::Transposed(k.From(key_), count_, dim_, scratch_.get(), keys_transposed_.get());
    Pack<Word>::Transposed(v.From(key_), count_, dim_, scratch_.get(), values_transposed_.get());
    Pack<Word>::ByRow(k.From(key_), count_, dim_, kKeys, keys_.get());
    Fill(dk_.get(), kKeys * padded_, 0.0f);
    Fill(dv_.get(), kKeys * padded_, 0.0f);
  }

  // The share of every query of one head that sees a key of this block.
  void Visit(const QueryHead& head) {
    view_ = &head.view;
    const Sequence& s = head.view.sequence;
    const int64_t end = s.EndQuery(key_ + count_);
    for (int64_t tile = s.FirstQuery(key_) / kQueries; tile * kQueries < end; ++tile)
      if (Meet(head.view, tile, block_)) VisitTile(head, tile);
  }

  void Finish(Rows dk, Rows dv) const {
    Unpack(dk_.get(), padded_, count_, dim_, nullptr, static_cast<float>(problem_.scale), dk.From(key_));
    Unpack(dv_.get(), padded_, count_, dim_, nullptr, 1.0f, dv.From(key_));
  }

 private:
  void VisitTile(const QueryHead& head, int64_t tile) {
    const int64_t row = tile * kQueries, rows = Least(kQueries, view_->sequence.seqlen_q - row);
    Pack<Word>::ByRow(head.q.From(row), rows, dim_, kQueries, queries_.get());
    Pack<Word>::ByRow(head.dout.From(row), rows, dim_, kQueries, dout_.get());
    if constexpr (Word::kPerWord > 1) {
      Pack<Word>::Scaled(head.q.From(row), rows, dim_, 1.0f, queries_left_.get());
      Pack<Word>::Scaled(head.dout.From(row), rows, dim_, 1.0f, dout_left_.get());
    }
    for (int64_t i = 0; i < kQueries; ++i) {
      shift_.get()[i] = i < rows ? head.shift[row + i] : kInfinity;
      reciprocal_.get()[i] = i < rows ? head.reciprocal[row + i] : 0.0f;
      delta_.get()[i] = i < rows ? head.delta[row + i] : 0.0f;
    }
    const Open open = view_->OfColumns(row, row + rows, key_, key_ + count_);
    for (int64_t strip = 0; strip < rows; strip += kRows)
      strips_[strip / kRows] =
          view_->OfStrip(row + strip, row + Least(strip + kRows, rows), key_, key_ + count_, open);
    const int64_t batch = view_->sequence.index;
    bias_turns_.WaitFor(batch, head.index, tile, block_);
    WeightsAndScoreGradients(row, rows, head.dbias);
    bias_turns_.Next(batch, head.index, tile, block_);
    AddToKeys(row, rows);
    QueryGradients(rows);

    turns_.WaitFor(head.turn + tile, block_);
    AddToQueries(head.dq + row * problem_.heads * dim_, rows);
    turns_.Next(head.turn + tile, *view_, tile, block_);
  }

  // Rows of q or dout times transposed panels over head_dim, in the very order of the forward pass. In pairs the rows
  // are packed a second time: as right factors (by_row) their words are of two rows.
  DEVKIT_INLINE MicroTile Product(const Buffer& left, const Buffer& by_row, int64_t strip, const Buffer& right,
                                  int64_t column) const {
    MicroTile tile;
    tile.Clear();
    const float* to = right.get() + column * words_;
    if constexpr (Word::kPerWord > 1) {
      MultiplyAdd<Word, Left::kByRow>(left.get() + strip * words_, words_, to, words_, tile);
    } else {
      for (int64_t k = 0; k < dim_; k += kColumns)
        MultiplyAdd<Word, Left::kByRow>(by_row.get() + k * kQueries + strip * kColumns, kColumns, to + k * kColumns,
                                        Least(kColumns, dim_ - k), tile);
    }
    return tile;
  }

  // p = exp(s - shift) / sum and ds = p (dp - delta), where dp = dout v^T; 0 where a query does not see a key.
  void WeightsAndScoreGradients(int64_t row, int64_t rows, float* dbias) {
    const bool biased = view_->bias.Any();
    const Vec scale = Broadcast(biased ? 1.0f : scale_.sign * scale_.size);
    for (int64_t column = 0; column < count_; column += kColumns) {
      for (int64_t strip = 0; strip < rows; strip += kRows) {
        const Strip& of = strips_[strip / kRows];
        const Seen seen = of.SeesAll(column) ? Seen::kAll
                          : column >= of.begin && column < of.end
                              ? view_->OfPanel(row + strip, row + Least(strip + kRows, rows), key_ + column, key_ + count_)
                              : Seen::kNone;
        MicroTile tile;
        if (seen == Seen::kNone) {
          tile.Clear();
          KeepWeights(tile, strip, column);
          KeepScoreGradients(tile, strip, column);
          continue;
        }
        tile = Product(queries_left_, queries_, strip, keys_transposed_, column);
        if (biased) tile = Biased(row + strip, column, tile);
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec shift = Broadcast(-shift_.get()[strip + r]), reciprocal = Broadcast(reciprocal_.get()[strip + r]);
          for (Vec& x : tile.at[r]) x = Mul(Exp2(Fma(x, scale, shift)), reciprocal);
        }
        if (seen == Seen::kSome) tile = OfSeen(tile, row + strip, column);
        // The weights go to memory and come back: there are not registers enough for two tiles.
        const auto [weights, stride] = KeepWeights(tile, strip, column);
        tile = Product(dout_left_, dout_, strip, values_transposed_, column);
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec delta = Broadcast(delta_.get()[strip + r]);
          for (int64_t half = 0; half < kHalves; ++half) {
            const Vec weight = Load(weights + r * stride + half * kLanes);
            tile.at[r][half] = Mul(weight, Sub(tile.at[r][half], delta));
          }
        }
        if (seen == Seen::kSome) tile = OfSeen(tile, row + strip, column);
        KeepScoreGradients(tile, strip, column);
        if (dbias != nullptr) AddToBias(tile, row + strip, Least(kRows, rows - strip), column, dbias);
      }
    }
  }

  void AddToBias(const MicroTile& ds, int64_t row, int64_t rows, int64_t column, float* dbias) const {
    const int64_t seqlen_k = view_->sequence.seqlen_k, count = Least(kColumns, count_ - column);
    for (int64_t r = 0; r < rows; ++r) {
      float* to = dbias + (row + r) * seqlen_k + key_ + column;
      float values[kColumns];
      for (int64_t half = 0; half < kHalves; ++half) Store(values + half * kLanes, ds.at[r][half]);
      for (int64_t c = 0; c < count; ++c) to[c] += values[c];
    }
  }

  // A tile, but 0 where a query does not see a key.
  MicroTile OfSeen(MicroTile tile, int64_t row, int64_t column) const {
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t half = 0; half < kHalves; ++half)
        tile.at[r][half] = view_->Keep(tile.at[r][half], row + r, key_ + column + half * kLanes, key_ + count_, Zero());
    return tile;
  }

  MicroTile Biased(int64_t strip, int64_t column, MicroTile tile) const {
    float added[kColumns];
    const int64_t count = Least(kColumns, count_ - column);
    for (int64_t r = 0; r < kRows; ++r) {
      view_->bias.Row(Least(strip + r, view_->sequence.seqlen_q - 1), key_ + column, count, added);
      for (int64_t half = 0; half < kHalves; ++half)
        tile.at[r][half] = Fma(tile.at[r][half], Broadcast(scale_.sign * scale_.size), Load(added + half * kLanes));
    }
    return tile;
  }

  struct Place {
    const float* at;
    int64_t stride;
  };

  // Lays p where dv's product reads it, as a left factor by depth (rows of queries), and tells where it is in floats.
  // In pairs, a word is of two queries.
  DEVKIT_INLINE Place KeepWeights(const MicroTile& p, int64_t strip, int64_t column) {
#ifdef DEVKIT_PAIRS
    if constexpr (Word::kPerWord == 2) {
      KeepPairs(p, weights_.get() + strip / 2 * kKeys + column);
      p.StoreTo(weights_of_tile_, kColumns);
      return {weights_of_tile_, kColumns};
    }
#endif
    float* to = weights_.get() + strip * kKeys + column;
    p.StoreTo(to, kKeys);
    return {to, kKeys};
  }

  // Lays ds where the products read it: as a left factor by row and by depth. In pairs, a word by row is of two keys and
  // one by depth of two queries.
  DEVKIT_INLINE void KeepScoreGradients(const MicroTile& ds, int64_t strip, int64_t column) {
#ifdef DEVKIT_PAIRS
    if constexpr (Word::kPerWord == 2) {
      for (int64_t r = 0; r < kRows; ++r)
        for (int64_t half = 0; half < kHalves; ++half)
          StoreBFloat16(reinterpret_cast<uint16_t*>(dscores_.get()) + (strip + r) * kKeys + column + half * kLanes,
                        ds.at[r][half]);
      KeepPairs(ds, dscores_pairs_.get() + strip / 2 * kKeys + column);
      return;
    }
#endif
    ds.StoreTo(dscores_.get() + strip * kKeys + column, kKeys);
  }

#ifdef DEVKIT_PAIRS
  DEVKIT_INLINE static void KeepPairs(const MicroTile& tile, float* to) {
    for (int64_t r = 0; r < kRows; r += 2)
      for (int64_t half = 0; half < kHalves; ++half)
        Store(to + r / 2 * kKeys + half * kLanes, Pairs(tile.at[r][half], tile.at[r + 1][half]));
  }
#endif

  // dv += p^T dout, dk += ds^T q
  void AddToKeys(int64_t row, int64_t rows) {
    const float* dscores = Word::kPerWord > 1 ? dscores_pairs_.get() : dscores_.get();
    for (int64_t column = 0; column < padded_; column += kColumns) {
      AddTransposedProduct(row, rows, weights_.get(), dout_.get(), column, dv_.get() + column);
      AddTransposedProduct(row, rows, dscores, queries_.get(), column, dk_.get() + column);
    }
  }

  // Whether the strip of a row of the tile sees none of the keys from `key` on, kRows of them.
  DEVKIT_INLINE bool Misses(int64_t row, int64_t key) const {
    const Strip& strip = strips_[row / kRows];
    return strip.end <= key || strip.begin >= key + kRows;
  }

  void AddTransposedProduct(int64_t row, int64_t rows, const float* left, const float* right, int64_t column,
                            float* sums) const {
    const Sequence& s = view_->sequence;
    right += column * (kQueries / Word::kPerWord);
    for (int64_t key = 0; key < count_; key += kRows) {
      // Only the rows that may see one of these keys.
      int64_t first = Most(0, s.FirstQuery(key_ + key) - row);
      int64_t last = Least(rows, s.EndQuery(Least(key_ + key + kRows, s.seqlen_k)) - row);
      while (first < last && Misses(first, key)) first = RoundDown(first, kRows) + kRows;
      while (first < last && Misses(last - 1, key)) last = RoundDown(last - 1, kRows);
      if (first >= last) continue;
      const int64_t begin = first / Word::kPerWord, words = DivideUp(last, Word::kPerWord) - begin;
      MicroTile tile;
      tile.Clear();
      MultiplyAdd<Word, Left::kByDepth>(left + begin * kKeys + key, kKeys, right + begin * kColumns, words, tile);
      tile.AddTo(sums + key * padded_, padded_);
    }
  }

  // This block's share of dq = ds k (without the scale).
  void QueryGradients(int64_t rows) {
    constexpr int64_t kStride = kKeys / Word::kPerWord;
    for (int64_t column = 0; column < padded_; column += kColumns) {
      for (int64_t strip = 0; strip < rows; strip += kRows) {
        const int64_t begin = strips_[strip / kRows].begin / Word::kPerWord;
        const int64_t words = DivideUp(strips_[strip / kRows].end, Word::kPerWord) - begin;
        MicroTile tile;
        tile.Clear();
        MultiplyAdd<Word, Left::kByRow>(dscores_.get() + strip * kStride + begin, kStride,
                                        keys_.get() + column * kStride + begin * kColumns, words, tile);
        tile.StoreTo(dq_.get() + strip * padded_ + column, padded_);
      }
    }
  }

  void AddToQueries(float* dq, int64_t rows) const {
    const auto scale = static_cast<float>(problem_.scale);
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = dq_.get() + i * padded_;
      float* to = dq + i * problem_.heads * dim_;
      for (int64_t j = 0; j < dim_; ++j) to[j] += from[j] * scale;
    }
  }

  const Problem& problem_;
  Turns& turns_;
  BiasTurns& bias_turns_;
  const Scale scale_;
  const int64_t dim_, words_, padded_;
  const View* view_ = nullptr;
  int64_t block_ = 0, key_ = 0, count_ = 0;
  Strip strips_[kQueries / kRows];
  float weights_of_tile_[kRows * kColumns];
#ifdef DEVKIT_TILES
  const TileRegisters registers_;
#endif
  Buffer keys_transposed_, values_transposed_, keys_, dk_, dv_;
  Buffer queries_left_, dout_left_, queries_, dout_, dq_, shift_, reciprocal_, delta_, weights_, dscores_,
      dscores_pairs_, scratch_;
};

// What the softmax's gradient subtracts from dp: rowsum(dout * out) less the gradient of lse, laid out as lse is.
template <typename T>
void RowSums(const Problem& p, const T* out, const T* dout, const float* dlse, float* delta) {
#pragma omp parallel for num_threads(p.threads) schedule(static)
  for (int64_t i = 0; i < p.total_q; ++i) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t at = (i * p.heads + h) * p.head_dim;
      Vec sums = Zero();
      int64_t j = 0;
      for (; j + kLanes <= p.head_dim; j += kLanes) sums = Fma(Load(out + at + j), Load(dout + at + j), sums);
      float sum = SumOfLanes(sums);
      for (; j < p.head_dim; ++j) sum += ToFloat(out[at + j]) * ToFloat(dout[at + j]);
      const int64_t row = p.cu_q != nullptr ? h * p.total_q + i
                                            : (i / p.seqlen_q * p.heads + h) * p.seqlen_q + i % p.seqlen_q;
      delta[row] = dlse == nullptr ? sum : sum - dlse[row];
    }
  }
}

inline void Backward(const Problem& p, const void* q, const void* k, const void* v, const void* out,
                     const float* statistics, const void* dout, const float* dlse, void* dq, void* dk, void* dv,
                     const BiasGradient& dbias) {
  const int64_t rows = p.heads * p.total_q, count = rows * p.head_dim, group = p.heads / p.kv_heads;
  const int64_t query_stride = p.heads * p.head_dim, key_stride = p.kv_heads * p.head_dim;
  const Buffer delta(rows);
  WithElement(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    RowSums(p, static_cast<const T*>(out), static_cast<const T*>(dout), dlse, delta.get());
  });
  // dq is a sum over the key blocks, and a sum is kept in float.
  const bool is_float = static_cast<Dtype>(p.dtype) == Dtype::kFloat32;
  const Buffer wide(is_float ? 0 : count);
  float* sums = is_float ? static_cast<float*>(dq) : wide.get();
  const PreparedColumns columns(p);

  // Block by block, and within a block sequence by sequence and head by head: the first blocks of a causal mask are the
  // longest, and a head's next block starts when its last is mostly done, so that hardly anyone waits for a turn. The
  // lowest item under way waits for nobody, so all come to an end.
  int64_t longest = 0, tiles = 0, items = 0;
  const Buffer first_tiles(2 * p.batch);
  int64_t* first_tile = reinterpret_cast<int64_t*>(first_tiles.get());
  for (int64_t b = 0; b < p.batch; ++b) {
    const Sequence s = SequenceOf(p, b);
    longest = Most(longest, DivideUp(s.seqlen_k, kKeys));
    items += DivideUp(s.seqlen_k, kKeys);
    first_tile[b] = tiles;
    tiles += DivideUp(s.seqlen_q, kQueries) * p.heads;
  }
  const Buffer memory(items * static_cast<int64_t>(sizeof(Item) / sizeof(float)));
  Item* item_at = reinterpret_cast<Item*>(memory.get());
  for (int64_t block = 0, at = 0; block < longest; ++block)
    for (int64_t b = 0; b < p.batch; ++b)
      if (block * kKeys < SequenceOf(p, b).seqlen_k) item_at[at++] = {b, block, 0};

  Turns turns(tiles);
  BiasTurns bias_turns(p, dbias);
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(p.threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < p.total_q; ++row) Fill(sums + row * query_stride, query_stride, 0.0f);
#pragma omp for schedule(static)
    for (int64_t b = 0; b < p.batch; ++b) {
      const Sequence s = SequenceOf(p, b);
      const int64_t count_of_tiles = DivideUp(s.seqlen_q, kQueries);
      for (int64_t h = 0; h < p.heads; ++h) {
        const View view = columns.Of(p, s, h);
        for (int64_t tile = 0; tile < count_of_tiles; ++tile)
          turns.Start(first_tile[b] + h * count_of_tiles + tile, view, tile);
      }
    }
    KeyBlock<ChosenWord> worker(p, turns, bias_turns);
    for (int64_t item = next++; item < items * p.kv_heads; item = next++) {
      const Item& work = item_at[item / p.kv_heads];
      const int64_t kv_head = item % p.kv_heads;
      const Sequence s = SequenceOf(p, work.sequence);
      const int64_t kv = s.first_k * key_stride + kv_head * p.head_dim;
      worker.Start(s, work.block, Rows::In(k, kv, key_stride, p.dtype), Rows::In(v, kv, key_stride, p.dtype));
      for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        const int64_t at = s.first_q * query_stride + h * p.head_dim, row = RowOf(p, s, h);
        float* gradient = dbias.data;
        if (gradient != nullptr) gradient += s.index * dbias.batch_stride + h * dbias.head_stride;
        worker.Visit({columns.Of(p, s, h), h, first_tile[work.sequence] + h * DivideUp(s.seqlen_q, kQueries),
                      Rows::In(q, at, query_stride, p.dtype), Rows::In(dout, at, query_stride, p.dtype),
                      statistics + row, statistics + rows + row, delta.get() + row, sums + at, gradient});
      }
      worker.Finish(Rows::In(dk, kv, key_stride, p.dtype), Rows::In(dv, kv, key_stride, p.dtype));
    }
  }
  if (is_float) return;
#pragma omp parallel for num_threads(p.threads) schedule(static)
  for (int64_t row = 0; row < p.total_q; ++row)
    Unpack(sums + row * query_stride, query_stride, 1, query_stride, nullptr, 1.0f,
           Rows::In(dq, row * query_stride, query_stride, p.dtype));
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
