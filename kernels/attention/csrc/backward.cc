// dq, dk and dv, a block of keys at a time: the weights are computed again from q, k and the forward pass's lse.
#include <atomic>
#include <thread>
#include <type_traits>
#include <vector>

#include "attention.h"

namespace devkit {
namespace {

// Keys of a work item (a multiple of 6 and of 16) and queries whose weights are held at once (a multiple of 6):
// measured best, or within 3 % of it, for head sizes of 64 to 256.
constexpr int64_t kKeys = 192;
constexpr int64_t kQueries = 48;

// Every key block adds its share to dq in turn, block 0 first: so a sum does not depend on which thread came first.
class Turns {
 public:
  Turns(int64_t heads, int64_t tiles) : tiles_(tiles), turn_(heads * tiles) {}

  void WaitFor(int64_t head, int64_t tile, int64_t block) {
    std::atomic<int64_t>& turn = turn_[head * tiles_ + tile];
    for (int64_t spins = 1; turn.load(std::memory_order_acquire) != block; ++spins) {
      if (spins % 1024 == 0) std::this_thread::yield();
      _mm_pause();
    }
  }
  void Next(int64_t head, int64_t tile, int64_t block) {
    turn_[head * tiles_ + tile].store(block + 1, std::memory_order_release);
  }

 private:
  int64_t tiles_;
  std::vector<std::atomic<int64_t>> turn_;
};

template <typename T>
struct QueryHead {
  int64_t index;  // among batch * heads
  Rows<T> q, dout;
  const float *lse, *delta;
  float* dq;
};

template <typename T>
class KeyBlock {
 public:
  KeyBlock(const Problem& problem, Turns& turns)
      : problem_(problem),
        turns_(turns),
        depth_(problem.head_dim),
        padded_(problem.PaddedDim()),
        keys_transposed_(Allocate(kKeys * depth_)),
        values_transposed_(Allocate(kKeys * depth_)),
        keys_(Allocate(kKeys * padded_)),
        dk_(Allocate(kKeys * padded_)),
        dv_(Allocate(kKeys * padded_)),
        queries_(Allocate(kQueries * padded_)),
        dout_(Allocate(kQueries * padded_)),
        dq_(Allocate(kQueries * padded_)),
        lse_(Allocate(kQueries)),
        delta_(Allocate(kQueries)),
        weights_(Allocate(kQueries * kKeys)),
        dscores_(Allocate(kQueries * kKeys)) {}

  void Start(int64_t block, Rows<T> k, Rows<T> v) {
    block_ = block;
    first_ = block * kKeys;
    count_ = std::min(kKeys, problem_.seqlen_k - first_);
    PackTransposed(k.From(first_), count_, depth_, keys_transposed_.get());
    PackTransposed(v.From(first_), count_, depth_, values_transposed_.get());
    PackByRow(k.From(first_), count_, depth_, kKeys, keys_.get());
    std::fill_n(dk_.get(), kKeys * padded_, 0.0f);
    std::fill_n(dv_.get(), kKeys * padded_, 0.0f);
  }

  // The share of every query of one head that sees a key of this block.
  void Visit(const QueryHead<T>& head) {
    // Block 0 visits all queries: it is the one that sets dq, where the others add to it.
    const int64_t tile = block_ == 0 ? 0 : problem_.FirstQuery(first_) / kQueries;
    for (int64_t row = tile * kQueries; row < problem_.seqlen_q; row += kQueries) VisitTile(head, row);
  }

  void Finish(T* dk, T* dv) const {
    const auto scale = static_cast<float>(problem_.Scale());
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t to = (first_ + i) * problem_.KeyStride();
      for (int64_t j = 0; j < depth_; ++j) {
        FromFloat(dk_.get()[i * padded_ + j] * scale, dk + to + j);
        FromFloat(dv_.get()[i * padded_ + j], dv + to + j);
      }
    }
  }

 private:
  void VisitTile(const QueryHead<T>& head, int64_t row) {
    const int64_t rows = std::min(kQueries, problem_.seqlen_q - row);
    PackByRow(head.q.From(row), rows, depth_, kQueries, queries_.get());
    PackByRow(head.dout.From(row), rows, depth_, kQueries, dout_.get());
    for (int64_t i = 0; i < rows; ++i) {
      lse_.get()[i] = static_cast<float>(head.lse[row + i] * kLog2E);
      delta_.get()[i] = head.delta[row + i];
    }
    std::fill(lse_.get() + rows, lse_.get() + kQueries, INFINITY);
    std::fill(delta_.get() + rows, delta_.get() + kQueries, 0.0f);

    WeightsAndScoreGradients(row, rows);
    AddToKeys(row, rows);
    QueryGradients(row, rows);

    const int64_t tile = row / kQueries;
    turns_.WaitFor(head.index, tile, block_);
    AddToQueries(head.dq + row * problem_.QueryStride(), rows);
    turns_.Next(head.index, tile, block_);
  }

  // Keys of the block that some row of the strip at `strip` of the tile at `row` sees.
  int64_t VisibleToStrip(int64_t row, int64_t rows, int64_t strip) const {
    const int64_t last = row + std::min(strip + kRows, rows) - 1;
    return std::clamp<int64_t>(problem_.Visible(last) - first_, 0, count_);
  }

  // left (rows of packed panels) times right (transposed panels), over head_dim.
  MicroTile Product(const float* left, int64_t strip, const float* right, int64_t column) const {
    MicroTile tile;
    tile.Clear();
    for (int64_t k = 0; k < depth_; k += kColumns) {
      MultiplyAdd<Left::kByRow>(left + k * kQueries + strip * kColumns, kColumns,
                                right + column * depth_ + k * kColumns, std::min(kColumns, depth_ - k), tile);
    }
    return tile;
  }

  // p = exp(s - lse) and ds = p (dp - delta), where dp = dout v^T; 0 where a query does not see a key.
  void WeightsAndScoreGradients(int64_t row, int64_t rows) {
    const Vec scale = Broadcast(static_cast<float>(problem_.Scale() * kLog2E));
    const int64_t fully_visible = std::min(problem_.Visible(row) - first_, count_);
    for (int64_t column = 0; column < count_; column += kColumns) {
      for (int64_t strip = 0; strip < rows; strip += kRows) {
        const int64_t at = strip * kKeys + column;
        MicroTile p, ds;
        if (VisibleToStrip(row, rows, strip) <= column) {
          p.Clear();
          p.StoreTo(weights_.get() + at, kKeys);
          p.StoreTo(dscores_.get() + at, kKeys);
          continue;
        }
        p = Product(queries_.get(), strip, keys_transposed_.get(), column);
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec lse = Broadcast(lse_.get()[strip + r]);
          for (Vec& x : p.at[r]) x = Exp2(Sub(Mul(x, scale), lse));
          if (column + kColumns > fully_visible) {
            const int64_t seen = std::min(problem_.Visible(row + strip + r) - first_, count_) - column;
            p.at[r][0] = KeepFirst(p.at[r][0], seen, Zero());
            p.at[r][1] = KeepFirst(p.at[r][1], seen - kLanes, Zero());
          }
        }
        p.StoreTo(weights_.get() + at, kKeys);
        ds = Product(dout_.get(), strip, values_transposed_.get(), column);
        for (int64_t r = 0; r < kRows; ++r) {
          const Vec delta = Broadcast(delta_.get()[strip + r]);
          for (int64_t half = 0; half < kHalves; ++half) {
            const Vec weight = Load(weights_.get() + at + r * kKeys + half * kLanes);
            ds.at[r][half] = Mul(weight, Sub(ds.at[r][half], delta));
          }
        }
        ds.StoreTo(dscores_.get() + at, kKeys);
      }
    }
  }

  // dv += p^T dout, dk += ds^T q
  void AddToKeys(int64_t row, int64_t rows) {
    for (int64_t column = 0; column < padded_; column += kColumns) {
      AddTransposedProduct(row, rows, weights_.get(), dout_.get(), column, dv_.get());
      AddTransposedProduct(row, rows, dscores_.get(), queries_.get(), column, dk_.get());
    }
  }

  void AddTransposedProduct(int64_t row, int64_t rows, const float* left, const float* right, int64_t column,
                            float* sums) {
    for (int64_t key = 0; key < count_; key += kRows) {
      const int64_t start = std::max<int64_t>(0, problem_.FirstQuery(first_ + key) - row);
      if (start >= rows) break;
      float* to = sums + key * padded_ + column;
      MicroTile tile;
      tile.Clear();
      MultiplyAdd<Left::kByDepth>(left + start * kKeys + key, kKeys,
                                  right + column * kQueries + start * kColumns, rows - start, tile);
      tile.AddTo(to, padded_);
    }
  }

  // This block's share of dq = ds k (without the scale).
  void QueryGradients(int64_t row, int64_t rows) {
    for (int64_t column = 0; column < padded_; column += kColumns) {
      for (int64_t strip = 0; strip < rows; strip += kRows) {
        MicroTile tile;
        tile.Clear();
        MultiplyAdd<Left::kByRow>(dscores_.get() + strip * kKeys, kKeys, keys_.get() + column * kKeys,
                                  VisibleToStrip(row, rows, strip), tile);
        tile.StoreTo(dq_.get() + strip * padded_ + column, padded_);
      }
    }
  }

  void AddToQueries(float* dq, int64_t rows) const {
    const auto scale = static_cast<float>(problem_.Scale());
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = dq_.get() + i * padded_;
      float* to = dq + i * problem_.QueryStride();
      if (block_ == 0) {
        for (int64_t j = 0; j < depth_; ++j) to[j] = from[j] * scale;
      } else {
        for (int64_t j = 0; j < depth_; ++j) to[j] += from[j] * scale;
      }
    }
  }

  const Problem& problem_;
  Turns& turns_;
  const int64_t depth_, padded_;
  int64_t block_ = 0, first_ = 0, count_ = 0;
  Buffer keys_transposed_, values_transposed_, keys_, dk_, dv_;
  Buffer queries_, dout_, dq_, lse_, delta_, weights_, dscores_;
};

// delta = rowsum(dout * out) [batch, heads, seqlen_q]: what the softmax's gradient subtracts from dp.
template <typename T>
Buffer RowSums(const Problem& problem, const T* out, const T* dout) {
  Buffer delta = Allocate(problem.batch * problem.heads * problem.seqlen_q);
  const int64_t rows = problem.batch * problem.seqlen_q;
#pragma omp parallel for num_threads(problem.threads) schedule(static)
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t h = 0; h < problem.heads; ++h) {
      const int64_t at = (i * problem.heads + h) * problem.head_dim;
      Vec sums = Zero();
      int64_t j = 0;
      for (; j + kLanes <= problem.head_dim; j += kLanes) sums = Fma(Load(out + at + j), Load(dout + at + j), sums);
      float sum = SumOfLanes(sums);
      for (; j < problem.head_dim; ++j) sum += ToFloat(out[at + j]) * ToFloat(dout[at + j]);
      const int64_t b = i / problem.seqlen_q;
      delta.get()[(b * problem.heads + h) * problem.seqlen_q + i % problem.seqlen_q] = sum;
    }
  }
  return delta;
}

}  // namespace

template <typename T>
void Backward(const Problem& problem, const T* q, const T* k, const T* v, const T* out, const float* lse, const T* dout,
              T* dq, T* dk, T* dv) {
  const Buffer delta = RowSums(problem, out, dout);
  // dq is a sum over the key blocks, and a sum is kept in float.
  constexpr bool kIsFloat = std::is_same_v<T, float>;
  const int64_t count = problem.batch * problem.seqlen_q * problem.QueryStride();
  const Buffer wide = Allocate(kIsFloat ? 0 : count);
  float* sums = kIsFloat ? reinterpret_cast<float*>(dq) : wide.get();
  const int64_t blocks = DivideUp(problem.seqlen_k, kKeys);
  const int64_t kv_heads = problem.batch * problem.kv_heads;
  const int64_t group = problem.heads / problem.kv_heads;
  Turns turns(problem.batch * problem.heads, DivideUp(problem.seqlen_q, kQueries));
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(problem.threads)
  {
    KeyBlock<T> worker(problem, turns);
    // Block by block, and within a block head by head: the first blocks of a causal mask are the longest, and a head's
    // next block starts when its last is mostly done, so that hardly anyone waits for a turn. The lowest item under way
    // waits for nobody, so all come to an end.
    for (int64_t item = next++; item < blocks * kv_heads; item = next++) {
      const int64_t b = item % kv_heads / problem.kv_heads;
      const int64_t kv = problem.KeyHead(b, item % problem.kv_heads);
      worker.Start(item / kv_heads, {k + kv, problem.KeyStride()}, {v + kv, problem.KeyStride()});
      for (int64_t g = 0; g < group; ++g) {
        const int64_t h = item % problem.kv_heads * group + g;
        const int64_t at = problem.QueryHead(b, h);
        const int64_t index = b * problem.heads + h;
        worker.Visit({index,
                      {q + at, problem.QueryStride()},
                      {dout + at, problem.QueryStride()},
                      lse + index * problem.seqlen_q,
                      delta.get() + index * problem.seqlen_q,
                      sums + at});
      }
      worker.Finish(dk + kv, dv + kv);
    }
  }
  if constexpr (!kIsFloat) {
#pragma omp parallel for num_threads(problem.threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) FromFloat(sums[i], dq + i);
  }
}

template void Backward(const Problem&, const float*, const float*, const float*, const float*, const float*,
                       const float*, float*, float*, float*);
template void Backward(const Problem&, const BFloat16*, const BFloat16*, const BFloat16*, const BFloat16*, const float*,
                       const BFloat16*, BFloat16*, BFloat16*, BFloat16*);

}  // namespace devkit
