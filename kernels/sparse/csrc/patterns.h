// What is made of places alone: CSR from COO, the transposed matrix, the union of two, one entry a place.
#pragma once

#include <numeric>

#include "rows.h"

namespace devkit {

// Sorts entries by key(e), one of `buckets`, and returns where each bucket begins. Entry i of the result was entry
// order[i]; those of a bucket keep their order.
template <typename Key>
std::vector<int64_t> CountingSort(Key key, int64_t count, int64_t buckets, int64_t* order) {
  std::vector<int64_t> start(buckets + 1, 0);
  for (int64_t e = 0; e < count; ++e) ++start[key(e) + 1];
  std::partial_sum(start.begin(), start.end(), start.begin());
  std::vector<int64_t> next(start.begin(), start.end() - 1);
  for (int64_t e = 0; e < count; ++e) order[next[key(e)]++] = e;
  return start;
}

// One entry a place: of each row the columns in ascending order, those that occur more than once as one.
// crows [batch * (rows + 1)] and cols are the result's; what entry s of it sums are the entries order[starts[s]] to
// order[starts[s + 1] - 1], in that order.
template <typename I>
class Union {
  using Entries = std::vector<std::pair<I, int64_t>>;

 public:
  std::vector<I> crows, cols;
  std::vector<int64_t> starts;

  // `sparse` with its columns in any order; `order` names its entries, and is put into the result's order.
  Union(const Rows<I>& sparse, int64_t* order, int threads) {
    const int64_t total = sparse.batch * sparse.rows;
    std::vector<int64_t> kept(total);
    std::vector<I> sorted(sparse.cols, sparse.cols + sparse.nnz);
    ForEach(threads, total, 64, [&](int64_t row) {
      static thread_local Entries row_entries, scratch;
      const int64_t begin = sparse.Begin(row), end = sparse.End(row);
      Sort(sorted.data() + begin, order + begin, end - begin, row_entries, scratch);
      int64_t distinct = 0;
      for (int64_t e = begin; e < end; ++e) distinct += e == begin || sorted[e] != sorted[e - 1];
      kept[row] = distinct;
    });
    crows.resize(sparse.batch * (sparse.rows + 1));
    std::vector<int64_t> first(total + 1, 0);
    std::partial_sum(kept.begin(), kept.end(), first.begin() + 1);
    for (int64_t b = 0; b < sparse.batch; ++b) {
      for (int64_t r = 0; r <= sparse.rows; ++r) {
        crows[b * (sparse.rows + 1) + r] = static_cast<I>(first[b * sparse.rows + r] - first[b * sparse.rows]);
      }
    }
    cols.resize(first[total]);
    starts.resize(first[total] + 1);
    starts.back() = sparse.nnz;
    ForEach(threads, total, 64, [&](int64_t row) {
      int64_t to = first[row];
      for (int64_t e = sparse.Begin(row); e < sparse.End(row); ++e) {
        if (e == sparse.Begin(row) || sorted[e] != sorted[e - 1]) {
          cols[to] = sorted[e];
          starts[to++] = e;
        }
      }
    });
  }

 private:
  // Two ascending runs, as the union of two sorted rows has, are merged.
  static void Sort(I* cols, int64_t* order, int64_t count, Entries& entries, Entries& scratch) {
    const int64_t run = std::is_sorted_until(cols, cols + count) - cols;
    if (run == count) return;
    entries.resize(count);
    for (int64_t i = 0; i < count; ++i) entries[i] = {cols[i], order[i]};
    const auto less = [](const auto& a, const auto& b) { return a.first < b.first; };
    if (std::is_sorted(cols + run, cols + count)) {
      scratch.resize(count);
      std::merge(entries.begin(), entries.begin() + run, entries.begin() + run, entries.end(), scratch.begin(), less);
      entries.swap(scratch);
    } else {
      std::stable_sort(entries.begin(), entries.end(), less);
    }
    for (int64_t i = 0; i < count; ++i) {
      cols[i] = entries[i].first;
      order[i] = entries[i].second;
    }
  }
};

// out[s] = the sum of values[order[e]] over the entries that s sums.
template <typename T>
void SumSegments(const T* values, const int64_t* order, const int64_t* starts, int64_t segments, T* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t s = 0; s < segments; ++s) {
    T sum = 0;
    for (int64_t e = starts[s]; e < starts[s + 1]; ++e) sum += values[order[e]];
    out[s] = sum;
  }
}

// out[order[e]] = values[s] for the entries that s sums: the gradient of SumSegments.
template <typename T>
void SpreadSegments(const T* values, const int64_t* order, const int64_t* starts, int64_t segments, T* out,
                    int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t s = 0; s < segments; ++s) {
    for (int64_t e = starts[s]; e < starts[s + 1]; ++e) out[order[e]] = values[s];
  }
}

}  // namespace devkit
