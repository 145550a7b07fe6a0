// out = softmax(scale q k^T + bias) v, a block of queries at a time with an online softmax.
#pragma once

#include <atomic>

#include "pack.h"
#include "visible.h"

namespace devkit {
namespace DEVKIT_ISA {

// A block of queries stays with its thread while the keys pass by in tiles; a tile of keys, once packed, serves every
// sub-block of the queries. Scores of one sub-block and one tile are what lives in the second-level cache. Where a tile
// of keys begins does not depend on the block, so that a row's sums are the same whatever block it is in.
struct Tiles {
  int64_t block;      // queries of a work item, a multiple of sub_block
  int64_t sub_block;  // queries whose scores are held at once, a multiple of kRows
  int64_t keys;       // keys of a tile, a multiple of kColumns
};

// Packing a tile of keys costs as much as some fifty queries do with it; more queries than this leave the cache.
constexpr int64_t kLargestBlock = 2016;

inline Tiles ChooseTiles(const Problem& p) {
  Tiles tiles;
  tiles.sub_block = 48;
  tiles.keys = p.head_dim <= 160 ? 256 : 128;
  // As many queries to a packed tile of keys as leave every thread several items.
  const int64_t rows = p.heads * p.total_q / (4 * p.threads);
  const int64_t seqlen = Most(p.seqlen_q, 1);
  tiles.block = Within(rows, tiles.sub_block, kLargestBlock);
  // Blocks of equal size, so that no thread is left with a longer one.
  tiles.block = DivideUp(seqlen, DivideUp(seqlen, tiles.block));
  tiles.block = RoundUp(tiles.block, kRows);
  tiles.sub_block = RoundUp(DivideUp(tiles.block, DivideUp(tiles.block, tiles.sub_block)), kRows);
  tiles.block = RoundUp(tiles.block, tiles.sub_block);
  return tiles;
}

// What the scores are multiplied by: q by the sign, the products by the size times log2 e.
struct Scale {
  float sign, size;
  explicit Scale(double scale)
      : sign(scale < 0 ? -1.0f : scale == 0 ? 0.0f : 1.0f), size(scale == 0 ? 1.0f : std::fabs(scale) * kLog2E) {}
};

template <class Word>
class QueryBlock {
 public:
  QueryBlock(const Problem& problem, const Tiles& tiles)
      : problem_(problem),
        tiles_(tiles),
        scale_(problem.scale),
        words_(DivideUp(problem.head_dim, Word::kPerWord)),
        padded_(RoundUp(problem.head_dim, kColumns)),
        queries_(tiles.block * words_),
        sums_(tiles.block * padded_),
        largest_(tiles.block),
        weight_(tiles.block),
        keys_(tiles.keys * words_),
        values_(tiles.keys / Word::kPerWord * padded_),
        scores_(tiles.sub_block * tiles.keys),
        tile_largest_(tiles.sub_block * kLanes),
        strips_(tiles.sub_block / kRows * static_cast<int64_t>(sizeof(Strip) / sizeof(float))),
        scratch_(Word::kPerWord > 1 ? tiles.keys * words_ : 1) {}

  // Rows first to first + tiles.block (or to the last) of one head.
  void Run(const View& view, int64_t first, Rows q, Rows k, Rows v, Rows out, float* lse, float* shift,
           float* reciprocal) {
    view_ = &view;
    first_ = first;
    const int64_t rows = Least(tiles_.block, view.sequence.seqlen_q - first);
    Pack<Word>::Scaled(q.From(first), rows, problem_.head_dim, scale_.sign, queries_.get());
    Fill(sums_.get(), RoundUp(rows, kRows) * padded_, 0.0f);
    Fill(largest_.get(), tiles_.block, -kInfinity);
    Fill(weight_.get(), tiles_.block, 0.0f);
    scaled_later_ = view.bias.Any() ? 1.0f : scale_.size;
    const int64_t begin = RoundDown(view.sequence.Begin(first), tiles_.keys);
    const int64_t end = view.sequence.End(first + rows - 1);
    for (key_ = begin; key_ < end; key_ += tiles_.keys) {
      last_ = Least(key_ + tiles_.keys, end);
      bool packed = false;
      for (int64_t row = 0; row < rows; row += tiles_.sub_block) {
        const int64_t row_end = Least(row + tiles_.sub_block, rows);
        if (!view.Visible(first + row, first + row_end, key_, last_)) continue;
        if (!packed) PackKeys(k, v);
        packed = true;
        Attend(row, row_end);
      }
    }
    Finish(rows, lse + first, shift + first, reciprocal + first);
    Unpack(sums_.get(), padded_, rows, problem_.head_dim, reciprocal + first, 1.0f, out.From(first));
  }

 private:
  void PackKeys(Rows k, Rows v) {
    const int64_t count = last_ - key_, dim = problem_.head_dim;
    Pack<Word>::Transposed(k.From(key_), count, dim, scratch_.get(), keys_.get());
    finite_ = Pack<Word>::ByRow(v.From(key_), count, dim, tiles_.keys, values_.get());
  }

  void Attend(int64_t row, int64_t end) {
    Strip* strips = reinterpret_cast<Strip*>(strips_.get());
    const Open open = view_->OfColumns(first_ + row, first_ + end, key_, last_);
    for (int64_t strip = row, i = 0; strip < end; strip += kRows, ++i)
      strips[i] = view_->OfStrip(first_ + strip, first_ + Least(strip + kRows, end), key_, last_, open);
    Score(row, end, strips);
    for (int64_t strip = row, i = 0; strip < end; strip += kRows, ++i)
      if (strips[i].begin < strips[i].end) Weigh(strip, strip - row, strips[i].begin, strips[i].end);
    for (int64_t column = 0; column < padded_; column += kColumns) {
      const float* values = values_.get() + column * (tiles_.keys / Word::kPerWord);
      for (int64_t strip = row, i = 0; strip < end; strip += kRows, ++i) {
        if (strips[i].begin == strips[i].end) continue;
        const int64_t begin = strips[i].begin / Word::kPerWord;
        const int64_t words = DivideUp(strips[i].end, Word::kPerWord) - begin;
        float* sums = sums_.get() + strip * padded_ + column;
        const float* weights = scores_.get() + (strip - row) * tiles_.keys + begin;
        if (!finite_) {
          AddSeen(strip, Least(kRows, end - strip), begin, words, weights, values + begin * kColumns, sums);
          continue;
        }
        MicroTile tile;
        tile.Clear();
        MultiplyAdd<Word, Left::kByRow>(weights, tiles_.keys, values + begin * kColumns, words, tile);
        tile.AddTo(sums, padded_);
      }
    }
  }

  // As the product, but a value that is not finite reaches only the rows that see its key.
  void AddSeen(int64_t strip, int64_t rows, int64_t begin, int64_t words, const float* weights, const float* values,
               float* sums) const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < words; ++k) {
        for (int64_t part = 0; part < Word::kPerWord; ++part) {
          if (view_->Hides(first_ + strip + r, key_ + (begin + k) * Word::kPerWord + part)) continue;
          const float weight = Part(weights[r * tiles_.keys + k], part);
          for (int64_t c = 0; c < kColumns; ++c) sums[r * padded_ + c] += weight * Part(values[k * kColumns + c], part);
        }
      }
    }
  }
  DEVKIT_INLINE static float Part(float word, int64_t part) {
    if (Word::kPerWord == 1) return word;
    return FromBits(part == 0 ? ToBits(word) << 16 : ToBits(word) & 0xFFFF0000);
  }

  // Scores of the sub-block and each row's largest, lane by lane.
  void Score(int64_t row, int64_t end, const Strip* strips) {
    const bool biased = view_->bias.Any();
    for (int64_t column = 0; key_ + column < last_; column += kColumns) {
      const float* keys = keys_.get() + column * words_;
      for (int64_t strip = row, i = 0; strip < end; strip += kRows, ++i) {
        if (column < strips[i].begin || column >= strips[i].end) continue;
        float* scores = scores_.get() + (strip - row) * tiles_.keys + column;
        float* largest = tile_largest_.get() + (strip - row) * kLanes;
        const Seen seen = strips[i].SeesAll(column)
                              ? Seen::kAll
                              : view_->OfPanel(first_ + strip, first_ + Least(strip + kRows, end), key_ + column, last_);
        MicroTile tile;
        if (seen == Seen::kNone) {
          for (auto& scores_of_row : tile.at) scores_of_row[0] = scores_of_row[1] = Broadcast(-kInfinity);
        } else {
          tile.Clear();
          MultiplyAdd<Word, Left::kByRow>(queries_.get() + strip * words_, words_, keys, words_, tile);
          if (biased) tile = Biased(strip, column, tile);
          if (seen == Seen::kSome) tile = Hidden(strip, column, tile);
        }
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec here = Max(tile.at[r][0], tile.at[r][1]);
          Store(largest + r * kLanes, column == strips[i].begin ? here : Max(here, Load(largest + r * kLanes)));
        }
        tile.StoreTo(scores, tiles_.keys);
      }
    }
  }

  // By value, so that what is seen whole stays in registers.
  MicroTile Biased(int64_t strip, int64_t column, MicroTile tile) const {
    float added[kColumns];
    const int64_t count = Least(kColumns, last_ - key_ - column);
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t row = Least(first_ + strip + r, view_->sequence.seqlen_q - 1);
      view_->bias.Row(row, key_ + column, count, added);
      for (int64_t half = 0; half < kHalves; ++half)
        tile.at[r][half] = Fma(tile.at[r][half], Broadcast(scale_.size), Load(added + half * kLanes));
    }
    return tile;
  }

  MicroTile Hidden(int64_t strip, int64_t column, MicroTile tile) const {
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t half = 0; half < kHalves; ++half)
        tile.at[r][half] = view_->Keep(tile.at[r][half], first_ + strip + r, key_ + column + half * kLanes, last_,
                                       Broadcast(-kInfinity));
    return tile;
  }

  // Scores of a strip become weights; what was summed with a smaller maximum is scaled down to the new one.
  void Weigh(int64_t strip, int64_t offset, int64_t begin, int64_t end) {
    const Vec scale = Broadcast(scaled_later_);
    for (int64_t r = 0; r < kRows; ++r) {
      float* row = scores_.get() + (offset + r) * tiles_.keys;
      const float before = largest_.get()[strip + r];
      const float here = MaxOfLanes(Load(tile_largest_.get() + (offset + r) * kLanes));
      const float now = before > here ? before : here;
      const Vec shift = Broadcast(-Shift(now));
      Vec sum0 = Zero(), sum1 = Zero();
      for (int64_t column = begin; column < end; column += kColumns) {
        const Vec p0 = Exp2(Fma(Load(row + column), scale, shift));
        const Vec p1 = Exp2(Fma(Load(row + column + kLanes), scale, shift));
#ifdef DEVKIT_PAIRS
        if constexpr (Word::kPerWord == 2) {
          // Half as long, so never ahead of what is still to be read.
          uint16_t* to = reinterpret_cast<uint16_t*>(row) + column;
          StoreBFloat16(to, p0);
          StoreBFloat16(to + kLanes, p1);
        }
#endif
        if constexpr (Word::kPerWord == 1) {
          Store(row + column, p0);
          Store(row + column + kLanes, p1);
        }
        sum0 = Add(sum0, p0);
        sum1 = Add(sum1, p1);
      }
      float& weight = weight_.get()[strip + r];
      if (now != before) {
        const float factor = before == -kInfinity ? 0.0f : std::exp2(Shift(before) - Shift(now));
        weight *= factor;
        float* sums = sums_.get() + (strip + r) * padded_;
        for (int64_t j = 0; j < padded_; j += kLanes) Store(sums + j, Mul(Load(sums + j), Broadcast(factor)));
        largest_.get()[strip + r] = now;
      }
      weight += SumOfLanes(Add(sum0, sum1));
    }
  }

  // What is subtracted from a row's scores: their largest, and 0 of a row that has seen no key yet, since -inf - -inf
  // is not a number.
  DEVKIT_INLINE float Shift(float largest) const { return largest == -kInfinity ? 0.0f : largest * scaled_later_; }

  void Finish(int64_t rows, float* lse, float* shift, float* reciprocal) const {
    for (int64_t i = 0; i < rows; ++i) {
      const float weight = weight_.get()[i], down = Shift(largest_.get()[i]);
      const bool blind = weight == 0;
      lse[i] = blind ? -kInfinity : static_cast<float>(down / kLog2E + std::log(static_cast<double>(weight)));
      shift[i] = blind ? kInfinity : down;
      reciprocal[i] = blind ? 0.0f : 1.0f / weight;
    }
  }

  const Problem& problem_;
  const Tiles& tiles_;
  const Scale scale_;
  const int64_t words_, padded_;
  const View* view_ = nullptr;
  int64_t first_ = 0, key_ = 0, last_ = 0;
  float scaled_later_ = 1;
  bool finite_ = true;
#ifdef DEVKIT_TILES
  const TileRegisters registers_;
#endif
  Buffer queries_, sums_, largest_, weight_, keys_, values_, scores_, tile_largest_, strips_, scratch_;
};

// A block of queries or of keys of one sequence.
struct Item {
  int64_t sequence, block, cost;
};

inline int CostliestFirst(const void* x, const void* y) {
  const Item &a = *static_cast<const Item*>(x), &b = *static_cast<const Item*>(y);
  if (a.cost != b.cost) return a.cost > b.cost ? -1 : 1;
  if (a.block != b.block) return a.block > b.block ? -1 : 1;
  return a.sequence < b.sequence ? -1 : a.sequence > b.sequence;
}

inline void Forward(const Problem& p, const void* q, const void* k, const void* v, void* out, float* lse,
                    float* statistics) {
  const Tiles tiles = ChooseTiles(p);
  const PreparedColumns columns(p);
  int64_t count = 0;
  for (int64_t b = 0; b < p.batch; ++b) count += DivideUp(SequenceOf(p, b).seqlen_q, tiles.block);
  const Buffer memory(count * static_cast<int64_t>(sizeof(Item) / sizeof(float)));
  Item* items = reinterpret_cast<Item*>(memory.get());
  Item* next_item = items;
  for (int64_t b = 0; b < p.batch; ++b) {
    const Sequence s = SequenceOf(p, b);
    for (int64_t block = 0; block * tiles.block < s.seqlen_q; ++block) {
      const int64_t first = block * tiles.block, end = Least(first + tiles.block, s.seqlen_q);
      *next_item++ = {b, block, (end - first) * Most(1, s.End(end - 1) - s.Begin(first))};
    }
  }
  // The longest items first, so that none is left for the end.
  std::qsort(items, count, sizeof(Item), CostliestFirst);
  const int64_t query_stride = p.heads * p.head_dim, key_stride = p.kv_heads * p.head_dim;
  const int64_t rows = p.heads * p.total_q;
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(p.threads)
  {
    QueryBlock<ChosenWord> worker(p, tiles);
    for (int64_t item = next++; item < count * p.heads; item = next++) {
      const Item& work = items[item / p.heads];
      const int64_t h = item % p.heads;
      const View view = columns.Of(p, SequenceOf(p, work.sequence), h);
      const int64_t at = view.sequence.first_q * query_stride + h * p.head_dim;
      const int64_t kv = view.sequence.first_k * key_stride + h * p.kv_heads / p.heads * p.head_dim;
      const int64_t row = RowOf(p, view.sequence, h);
      worker.Run(view, work.block * tiles.block, Rows::In(q, at, query_stride, p.dtype),
                 Rows::In(k, kv, key_stride, p.dtype), Rows::In(v, kv, key_stride, p.dtype),
                 Rows::In(out, at, query_stride, p.dtype), lse + row, statistics + row, statistics + rows + row);
    }
  }
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
