// The stored entries of a batch of matrices by row, and the shares of the work that threads take.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace devkit {

// Calls work(i) for each i below `count` on some threads, who takes what as it comes. Not schedule(dynamic): Paddle's
// OpenMP library lacks what GCC makes of that, and another one in the process answers with all of the loop on each
// thread.
template <typename Work>
void ForEach(int threads, int64_t count, int64_t chunk, Work work) {
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(threads)
  for (int64_t from = next.fetch_add(chunk); from < count; from = next.fetch_add(chunk)) {
    for (int64_t i = from; i < std::min(count, from + chunk); ++i) work(i);
  }
}

// CSR of one or more matrices of one shape, as Paddle keeps it: each matrix has its own row pointer of rows + 1, which
// begins with 0, and its entries follow those of the matrix before it.
template <typename I>
struct Rows {
  const I *crows, *cols;
  int64_t batch, rows, columns, nnz;
  std::vector<int64_t> first;   // where the entries of each matrix begin
  std::vector<int64_t> shares;  // where the rows of each share of the work begin

  // Whether the row pointers rise from 0 and end where the entries do. Columns are looked at when rows are visited.
  bool Start(int threads) {
    first.assign(batch + 1, 0);
    for (int64_t b = 0; b < batch; ++b) {
      const I* pointer = crows + b * (rows + 1);
      if (pointer[0] != 0) return false;
      bool rises = true;
      for (int64_t r = 0; r < rows; ++r) rises &= pointer[r + 1] >= pointer[r];
      if (!rises) return false;
      first[b + 1] = first[b] + pointer[rows];
    }
    if (first[batch] != nnz) return false;
    Share(threads);
    return true;
  }

  // Of one matrix, the most frequent, nothing is divided: a row of few entries takes little longer than a division.
  int64_t MatrixOf(int64_t row) const { return batch == 1 ? 0 : row / rows; }
  int64_t Begin(int64_t row) const {
    const int64_t matrix = MatrixOf(row);
    return first[matrix] + crows[row + matrix];  // each matrix before it has a pointer more than rows
  }
  int64_t End(int64_t row) const {
    const int64_t matrix = MatrixOf(row);
    return first[matrix] + crows[row + matrix + 1];
  }

  bool ColumnsFit(int64_t begin, int64_t end) const {
    using U = std::make_unsigned_t<I>;
    U largest = 0;
    for (int64_t e = begin; e < end; ++e) largest = std::max(largest, static_cast<U>(cols[e]));
    return begin == end || largest < static_cast<U>(columns);
  }

  // Calls work(row, begin, end) for every row of every matrix, in shares of about as many entries; returns whether
  // every column fits, unless that is known already. A row belongs to one thread, so that a sum over it does not depend
  // on how many there are.
  template <typename Work>
  bool ForEachRow(int threads, Work work, bool known_to_fit = false) const {
    std::atomic<bool> fits{true};
    ForEach(threads, static_cast<int64_t>(shares.size()) - 1, 1, [&](int64_t share) {
      const int64_t from = shares[share], to = shares[share + 1];
      if (!known_to_fit && !ColumnsFit(Begin(from), End(to - 1))) {
        fits = false;
        return;
      }
      for (int64_t row = from; row < to; ++row) work(row, Begin(row), End(row));
    });
    return fits;
  }

 private:
  static constexpr int64_t kWorkOfARow = 4;  // in entries: what a row costs that has none

  void Share(int threads) {
    const int64_t total = batch * rows;
    const int64_t wanted = std::clamp<int64_t>((nnz + total * kWorkOfARow) / (threads * 16 + 1), 512, 16384);
    shares.assign(1, 0);
    while (shares.back() < total) {
      const int64_t from = shares.back(), enough = Begin(from) + from * kWorkOfARow + wanted;
      // The work rises from row to row: the row that makes it enough is looked up, since one look at each row would
      // count beside a product of few entries.
      int64_t row = from;
      for (int64_t end = total - 1; row < end;) {
        const int64_t middle = (row + end) / 2;
        if (End(middle) + (middle + 1) * kWorkOfARow < enough) {
          row = middle + 1;
        } else {
          end = middle;
        }
      }
      shares.push_back(row + 1);
    }
  }
};

}  // namespace devkit
