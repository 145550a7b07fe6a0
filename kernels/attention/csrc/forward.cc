// out = softmax(q k^T / sqrt(head_dim)) v, a block of queries at a time with an online softmax.
#include <atomic>
#include <limits>

#include "attention.h"

namespace devkit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A block of queries stays with its thread while the keys pass by in tiles; a tile of keys, once packed, serves every
// sub-block of the queries. Scores of one sub-block and one tile are what lives in the second-level cache.
struct Tiles {
  int64_t block;      // queries of a work item, a multiple of sub_block
  int64_t sub_block;  // queries whose scores are held at once, a multiple of 6
  int64_t keys;       // keys of a tile, a multiple of 16
};

// Packing a tile of keys costs as much as some fifty queries do with it; more queries than this leave the cache.
constexpr int64_t kLargestBlock = 2016;

Tiles ChooseTiles(const Problem& problem) {
  Tiles tiles;
  tiles.sub_block = 48;
  tiles.keys = problem.head_dim <= 160 ? 256 : 128;
  // As many queries to a packed tile of keys as leave every thread several items.
  const int64_t items = 4 * problem.threads;
  const int64_t rows = problem.batch * problem.heads * problem.seqlen_q / items;
  tiles.block = std::clamp(rows, tiles.sub_block, kLargestBlock);
  // Blocks of equal size, so that no thread is left with a longer one.
  tiles.block = DivideUp(problem.seqlen_q, DivideUp(problem.seqlen_q, tiles.block));
  tiles.block = RoundUp(tiles.block, kRows);
  tiles.sub_block = RoundUp(DivideUp(tiles.block, DivideUp(tiles.block, tiles.sub_block)), kRows);
  tiles.block = RoundUp(tiles.block, tiles.sub_block);
  return tiles;
}

template <typename T>
class QueryBlock {
 public:
  QueryBlock(const Problem& problem, const Tiles& tiles)
      : problem_(problem),
        tiles_(tiles),
        depth_(problem.head_dim),
        padded_(problem.PaddedDim()),
        queries_(Allocate(tiles.block * depth_)),
        sums_(Allocate(tiles.block * padded_)),
        largest_(Allocate(tiles.block)),
        weight_(Allocate(tiles.block)),
        keys_(Allocate(tiles.keys * depth_)),
        values_(Allocate(tiles.keys * padded_)),
        scores_(Allocate(tiles.sub_block * tiles.keys)),
        tile_largest_(Allocate(tiles.sub_block * kLanes)) {}

  // Rows first to first + tiles.block (or to the last) of one head.
  void Run(int64_t first, Rows<T> q, Rows<T> k, Rows<T> v, T* out, float* lse) {
    const int64_t rows = std::min(tiles_.block, problem_.seqlen_q - first);
    PackScaled(q.From(first), rows, depth_, static_cast<float>(problem_.Scale() * kLog2E), queries_.get());
    std::fill_n(sums_.get(), RoundUp(rows, kRows) * padded_, 0.0f);
    std::fill_n(largest_.get(), tiles_.block, -kInfinity);
    std::fill_n(weight_.get(), tiles_.block, 0.0f);
    const int64_t visible = problem_.Visible(first + rows - 1);
    for (int64_t key = 0; key < visible; key += tiles_.keys) {
      const int64_t count = std::min(tiles_.keys, visible - key);
      PackTransposed(k.From(key), count, depth_, keys_.get());
      PackByRow(v.From(key), count, depth_, tiles_.keys, values_.get());
      for (int64_t row = 0; row < rows; row += tiles_.sub_block) {
        const int64_t end = std::min(row + tiles_.sub_block, rows);
        if (problem_.Visible(first + end - 1) > key) Attend(first, row, end, key, count);
      }
    }
    Finish(first, rows, out, lse);
  }

 private:
  // Keys of the tile at `key` that some row of the strip at `row` sees.
  int64_t VisibleToStrip(int64_t first, int64_t row, int64_t end, int64_t key, int64_t count) const {
    const int64_t last = first + std::min(row + kRows, end) - 1;
    return std::clamp<int64_t>(problem_.Visible(last) - key, 0, count);
  }

  void Attend(int64_t first, int64_t row, int64_t end, int64_t key, int64_t count) {
    Score(first, row, end, key, count);
    for (int64_t strip = row; strip < end; strip += kRows) {
      const int64_t visible = VisibleToStrip(first, strip, end, key, count);
      if (visible > 0) Weigh(strip, strip - row, visible);
    }
    for (int64_t column = 0; column < padded_; column += kColumns) {
      const float* values = values_.get() + column * tiles_.keys;
      for (int64_t strip = row; strip < end; strip += kRows) {
        const int64_t visible = VisibleToStrip(first, strip, end, key, count);
        if (visible == 0) continue;
        float* sums = sums_.get() + strip * padded_ + column;
        MicroTile tile;
        tile.Clear();
        MultiplyAdd<Left::kByRow>(scores_.get() + (strip - row) * tiles_.keys, tiles_.keys, values, visible, tile);
        tile.AddTo(sums, padded_);
      }
    }
  }

  // Scores of the sub-block and each row's largest, lane by lane.
  void Score(int64_t first, int64_t row, int64_t end, int64_t key, int64_t count) {
    const int64_t fully_visible = problem_.Visible(first + row) - key;
    for (int64_t column = 0; column < count; column += kColumns) {
      const float* keys = keys_.get() + column * depth_;
      for (int64_t strip = row; strip < end; strip += kRows) {
        if (VisibleToStrip(first, strip, end, key, count) <= column) continue;
        MicroTile tile;
        tile.Clear();
        MultiplyAdd<Left::kByRow>(queries_.get() + strip * depth_, depth_, keys, depth_, tile);
        if (column + kColumns > std::min(fully_visible, count)) Mask(first + strip, key + column, key + count, tile);
        float* largest = tile_largest_.get() + (strip - row) * kLanes;
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec here = Max(tile.at[r][0], tile.at[r][1]);
          Store(largest + r * kLanes, column == 0 ? here : Max(here, Load(largest + r * kLanes)));
        }
        tile.StoreTo(scores_.get() + (strip - row) * tiles_.keys + column, tiles_.keys);
      }
    }
  }

  void Mask(int64_t query, int64_t key, int64_t end, MicroTile& tile) const {
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t count = std::min(problem_.Visible(query + r), end) - key;
      tile.at[r][0] = KeepFirst(tile.at[r][0], count, Broadcast(-kInfinity));
      tile.at[r][1] = KeepFirst(tile.at[r][1], count - kLanes, Broadcast(-kInfinity));
    }
  }

  // Scores of a strip become weights; what was summed with a smaller maximum is scaled down to the new one.
  void Weigh(int64_t strip, int64_t offset, int64_t visible) {
    const int64_t columns = RoundUp(visible, kColumns);
    for (int64_t r = 0; r < kRows; ++r) {
      float* row = scores_.get() + (offset + r) * tiles_.keys;
      const float before = largest_.get()[strip + r];
      const float now = std::max(before, MaxOfLanes(Load(tile_largest_.get() + (offset + r) * kLanes)));
      // A row that has seen no key yet has a maximum of -inf, and -inf - -inf is not a number.
      const Vec shift = Broadcast(now == -kInfinity ? 0.0f : now);
      Vec sum0 = Zero(), sum1 = Zero();
      for (int64_t column = 0; column < columns; column += kColumns) {
        const Vec p0 = Exp2(Sub(Load(row + column), shift));
        const Vec p1 = Exp2(Sub(Load(row + column + kLanes), shift));
        Store(row + column, p0);
        Store(row + column + kLanes, p1);
        sum0 = Add(sum0, p0);
        sum1 = Add(sum1, p1);
      }
      float& weight = weight_.get()[strip + r];
      if (now != before) {
        const float factor = before == -kInfinity ? 0.0f : std::exp2(before - now);
        weight *= factor;
        float* sums = sums_.get() + (strip + r) * padded_;
        for (int64_t j = 0; j < padded_; j += kLanes) Store(sums + j, Mul(Load(sums + j), Broadcast(factor)));
        largest_.get()[strip + r] = now;
      }
      weight += SumOfLanes(Add(sum0, sum1));
    }
  }

  void Finish(int64_t first, int64_t rows, T* out, float* lse) const {
    for (int64_t i = 0; i < rows; ++i) {
      const bool blind = problem_.Visible(first + i) == 0;
      const float weight = weight_.get()[i];
      const float factor = blind ? 0.0f : 1.0f / weight;
      const float* sums = sums_.get() + i * padded_;
      T* row = out + (first + i) * problem_.QueryStride();
      for (int64_t j = 0; j < depth_; ++j) FromFloat(sums[j] * factor, row + j);
      lse[first + i] = blind ? kInfinity : static_cast<float>(largest_.get()[i] / kLog2E + std::log(weight));
    }
  }

  const Problem& problem_;
  const Tiles& tiles_;
  const int64_t depth_, padded_;
  Buffer queries_, sums_, largest_, weight_, keys_, values_, scores_, tile_largest_;
};

}  // namespace

template <typename T>
void Forward(const Problem& problem, const T* q, const T* k, const T* v, T* out, float* lse) {
  const Tiles tiles = ChooseTiles(problem);
  const int64_t blocks = DivideUp(problem.seqlen_q, tiles.block);
  const int64_t heads = problem.batch * problem.heads;
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(problem.threads)
  {
    QueryBlock<T> worker(problem, tiles);
    // The last block of a causal head sees the most keys: the longest items first, so that none is left for the end.
    for (int64_t item = next++; item < blocks * heads; item = next++) {
      const int64_t block = blocks - 1 - item / heads;
      const int64_t b = item % heads / problem.heads;
      const int64_t h = item % problem.heads;
      const int64_t kv = problem.KeyHead(b, h * problem.kv_heads / problem.heads);
      worker.Run(block * tiles.block, {q + problem.QueryHead(b, h), problem.QueryStride()},
                 {k + kv, problem.KeyStride()}, {v + kv, problem.KeyStride()}, out + problem.QueryHead(b, h),
                 lse + (b * problem.heads + h) * problem.seqlen_q);
    }
  }
}

template void Forward(const Problem&, const float*, const float*, const float*, float*, float*);
template void Forward(const Problem&, const BFloat16*, const BFloat16*, const BFloat16*, BFloat16*, float*);

}  // namespace devkit
