// The operators as Paddle knows them. Gradients are made of the same operators, in autograd.py.
#include "paddle/extension.h"
#include "patterns.h"
#include "products.h"
#include "softmax.h"

namespace {

using paddle::Tensor;
using Shapes = std::vector<std::vector<int64_t>>;
using Types = std::vector<paddle::DataType>;

#define DEVKIT_BAD_PLACES "The row pointers must rise from 0 to the number of entries, and columns must fit the shape."

template <typename T>
T* Elements(const Tensor& tensor) {
  return static_cast<T*>(const_cast<void*>(tensor.data()));
}

// Calls run(I{}) with the type of the indices.
template <typename Run>
auto WithIndex(const Tensor& indices, Run run) {
  PD_CHECK(indices.dtype() == paddle::DataType::INT32 || indices.dtype() == paddle::DataType::INT64,
           "Indices must be int32 or int64.");
  return indices.dtype() == paddle::DataType::INT32 ? run(int32_t{}) : run(int64_t{});
}

// Calls run(T{}) with the type of the values.
template <typename Run>
auto WithValue(const Tensor& values, Run run) {
  PD_CHECK(values.dtype() == paddle::DataType::FLOAT32 || values.dtype() == paddle::DataType::FLOAT64,
           "Values must be float32 or float64.");
  return values.dtype() == paddle::DataType::FLOAT32 ? run(float{}) : run(double{});
}

template <typename I>
devkit::Rows<I> RowsOf(const Tensor& crows, const Tensor& cols, int64_t rows, int64_t columns, int threads) {
  PD_CHECK(crows.is_cpu() && cols.is_cpu() && crows.dtype() == cols.dtype(), "Indices must be of one type, on the CPU.");
  PD_CHECK(threads > 0 && rows >= 0 && columns >= 0, "threads and the shape must be positive.");
  PD_CHECK(crows.numel() % (rows + 1) == 0, "The row pointer must have rows + 1 elements for each matrix.");
  devkit::Rows<I> sparse{Elements<I>(crows), Elements<I>(cols), crows.numel() / (rows + 1), rows, columns, cols.numel()};
  PD_CHECK(sparse.Start(threads), DEVKIT_BAD_PLACES);
  return sparse;
}

Tensor Empty(const std::vector<int64_t>& shape, paddle::DataType type) {
  return paddle::empty(shape, type, paddle::CPUPlace());
}

template <typename T>
Tensor Copied(const std::vector<T>& from, paddle::DataType type) {
  Tensor tensor = Empty({static_cast<int64_t>(from.size())}, type);
  std::copy(from.begin(), from.end(), Elements<T>(tensor));
  return tensor;
}

std::vector<Tensor> Spmm(const Tensor& crows, const Tensor& cols, const Tensor& values, const Tensor& dense,
                         int64_t rows, int64_t columns, int threads) {
  PD_CHECK(values.dtype() == dense.dtype() && values.numel() == cols.numel(), "Values and places do not fit.");
  auto shape = dense.shape();
  const int64_t width = shape.back();
  return WithIndex(cols, [&](auto index) {
    const auto sparse = RowsOf<decltype(index)>(crows, cols, rows, columns, threads);
    PD_CHECK(dense.numel() == sparse.batch * columns * width, "The dense matrix does not fit the sparse one.");
    shape[shape.size() - 2] = rows;
    Tensor out = Empty(shape, values.dtype());
    const bool fits = WithValue(values, [&](auto value) {
      using T = decltype(value);
      return devkit::Spmm(sparse, Elements<T>(values), Elements<T>(dense), width, Elements<T>(out), threads);
    });
    PD_CHECK(fits, DEVKIT_BAD_PLACES);
    return std::vector<Tensor>{out};
  });
}

std::vector<Tensor> Sddmm(const Tensor& crows, const Tensor& cols, const Tensor& left, const Tensor& right,
                          int64_t rows, int64_t columns, int threads) {
  PD_CHECK(left.dtype() == right.dtype() && left.shape().back() == right.shape().back(), "The factors do not fit.");
  const int64_t depth = left.shape().back();
  return WithIndex(cols, [&](auto index) {
    const auto sparse = RowsOf<decltype(index)>(crows, cols, rows, columns, threads);
    PD_CHECK(left.numel() == sparse.batch * rows * depth && right.numel() == sparse.batch * columns * depth,
             "The factors do not fit the places.");
    Tensor out = Empty({cols.numel()}, left.dtype());
    const bool fits = WithValue(left, [&](auto value) {
      using T = decltype(value);
      return devkit::Sddmm(sparse, Elements<T>(left), Elements<T>(right), depth, Elements<T>(out), threads);
    });
    PD_CHECK(fits, DEVKIT_BAD_PLACES);
    return std::vector<Tensor>{out};
  });
}

std::vector<Tensor> Softmax(const Tensor& crows, const Tensor& cols, const Tensor& values, int64_t rows,
                            int64_t columns, int threads) {
  PD_CHECK(values.numel() == cols.numel(), "Values and places do not fit.");
  return WithIndex(cols, [&](auto index) {
    const auto sparse = RowsOf<decltype(index)>(crows, cols, rows, columns, threads);
    Tensor out = Empty(values.shape(), values.dtype());
    WithValue(values, [&](auto value) {
      using T = decltype(value);
      return devkit::Softmax(sparse, Elements<T>(values), Elements<T>(out), threads);
    });
    return std::vector<Tensor>{out};
  });
}

std::vector<Tensor> SoftmaxGradient(const Tensor& crows, const Tensor& cols, const Tensor& p, const Tensor& dp,
                                    int64_t rows, int64_t columns, int threads) {
  PD_CHECK(p.numel() == cols.numel() && dp.numel() == p.numel() && dp.dtype() == p.dtype(), "Values do not fit.");
  return WithIndex(cols, [&](auto index) {
    const auto sparse = RowsOf<decltype(index)>(crows, cols, rows, columns, threads);
    Tensor out = Empty(p.shape(), p.dtype());
    WithValue(p, [&](auto value) {
      using T = decltype(value);
      return devkit::SoftmaxGradient(sparse, Elements<T>(p), Elements<T>(dp), Elements<T>(out), threads);
    });
    return std::vector<Tensor>{out};
  });
}

// indices [2 or 3, nnz] of COO. Gives crows, cols, order and starts; where nothing is to be joined, starts is empty and
// the entries of a row keep their order.
std::vector<Tensor> FromCoo(const Tensor& indices, int64_t batch, int64_t rows, int64_t columns, bool join,
                            int threads) {
  const int64_t dims = indices.shape()[0], nnz = indices.shape()[1];
  PD_CHECK(dims == 2 || dims == 3, "COO must have two or three dimensions.");
  return WithIndex(indices, [&](auto index) {
    using I = decltype(index);
    const I* row = Elements<I>(indices) + (dims - 2) * nnz;
    const I* column = row + nnz;
    const I* matrix = dims == 3 ? Elements<I>(indices) : nullptr;
    bool fits = true;
    for (int64_t e = 0; e < nnz; ++e) {
      fits &= row[e] >= 0 && row[e] < rows && column[e] >= 0 && column[e] < columns;
      if (matrix) fits &= matrix[e] >= 0 && matrix[e] < batch;
    }
    PD_CHECK(fits, DEVKIT_BAD_PLACES);
    Tensor order = Empty({nnz}, paddle::DataType::INT64);
    const auto start = devkit::CountingSort([&](int64_t e) { return (matrix ? matrix[e] * rows : 0) + row[e]; }, nnz,
                                            batch * rows, Elements<int64_t>(order));
    std::vector<I> crows(batch * (rows + 1)), cols(nnz);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t r = 0; r <= rows; ++r) {
        crows[b * (rows + 1) + r] = static_cast<I>(start[b * rows + r] - start[b * rows]);
      }
    }
    for (int64_t e = 0; e < nnz; ++e) cols[e] = column[Elements<int64_t>(order)[e]];
    if (!join) {
      return std::vector<Tensor>{Copied(crows, indices.dtype()), Copied(cols, indices.dtype()), order,
                                 Empty({0}, paddle::DataType::INT64)};
    }
    devkit::Rows<I> sparse{crows.data(), cols.data(), batch, rows, columns, nnz};
    PD_CHECK(sparse.Start(threads), DEVKIT_BAD_PLACES);
    const devkit::Union<I> joined(sparse, Elements<int64_t>(order), threads);
    return std::vector<Tensor>{Copied(joined.crows, indices.dtype()), Copied(joined.cols, indices.dtype()), order,
                               Copied(joined.starts, paddle::DataType::INT64)};
  });
}

// The union of two matrices' places; order counts the entries of the first, then those of the second.
std::vector<Tensor> Union(const Tensor& crows_a, const Tensor& cols_a, const Tensor& crows_b, const Tensor& cols_b,
                          int64_t rows, int64_t columns, int threads) {
  PD_CHECK(cols_a.dtype() == cols_b.dtype() && crows_a.numel() == crows_b.numel(), "The matrices do not fit.");
  return WithIndex(cols_a, [&](auto index) {
    using I = decltype(index);
    const auto a = RowsOf<I>(crows_a, cols_a, rows, columns, threads);
    const auto b = RowsOf<I>(crows_b, cols_b, rows, columns, threads);
    std::vector<I> crows(crows_a.numel()), cols(a.nnz + b.nnz);
    for (size_t i = 0; i < crows.size(); ++i) crows[i] = a.crows[i] + b.crows[i];
    devkit::Rows<I> both{crows.data(), cols.data(), a.batch, rows, columns, a.nnz + b.nnz};
    PD_CHECK(both.Start(threads), DEVKIT_BAD_PLACES);
    Tensor order = Empty({both.nnz}, paddle::DataType::INT64);
    const bool fits = both.ForEachRow(
        threads,
        [&](int64_t row, int64_t begin, int64_t) {
          for (int64_t e = a.Begin(row); e < a.End(row); ++e, ++begin) {
            cols[begin] = a.cols[e];
            Elements<int64_t>(order)[begin] = e;
          }
          for (int64_t e = b.Begin(row); e < b.End(row); ++e, ++begin) {
            cols[begin] = b.cols[e];
            Elements<int64_t>(order)[begin] = a.nnz + e;
          }
        },
        /*known_to_fit=*/true);
    PD_CHECK(fits && both.ColumnsFit(0, both.nnz), DEVKIT_BAD_PLACES);
    const devkit::Union<I> joined(both, Elements<int64_t>(order), threads);
    return std::vector<Tensor>{Copied(joined.crows, cols_a.dtype()), Copied(joined.cols, cols_a.dtype()), order,
                               Copied(joined.starts, paddle::DataType::INT64)};
  });
}

// The transposed matrix's crows and cols, and which entry each of its entries was.
std::vector<Tensor> Transpose(const Tensor& crows, const Tensor& cols, int64_t rows, int64_t columns, int threads) {
  return WithIndex(cols, [&](auto index) {
    using I = decltype(index);
    const auto sparse = RowsOf<I>(crows, cols, rows, columns, threads);
    PD_CHECK(sparse.ColumnsFit(0, sparse.nnz), DEVKIT_BAD_PLACES);
    Tensor order = Empty({sparse.nnz}, paddle::DataType::INT64);
    Tensor to_crows = Empty({sparse.batch * (columns + 1)}, cols.dtype()), to_cols = Empty({sparse.nnz}, cols.dtype());
    for (int64_t b = 0; b < sparse.batch; ++b) {
      I* pointer = Elements<I>(to_crows) + b * (columns + 1);
      std::fill_n(pointer, columns + 1, I{0});
      for (int64_t e = sparse.first[b]; e < sparse.first[b + 1]; ++e) ++pointer[sparse.cols[e] + 1];
      std::partial_sum(pointer, pointer + columns + 1, pointer);
      std::vector<I> next(pointer, pointer + columns);
      for (int64_t row = b * rows; row < (b + 1) * rows; ++row) {
        for (int64_t e = sparse.Begin(row); e < sparse.End(row); ++e) {
          const int64_t to = sparse.first[b] + next[sparse.cols[e]]++;
          Elements<I>(to_cols)[to] = static_cast<I>(row - b * rows);
          Elements<int64_t>(order)[to] = e;
        }
      }
    }
    return std::vector<Tensor>{to_crows, to_cols, order};
  });
}

// indices [2 or 3, nnz] of COO from CSR.
std::vector<Tensor> ToCoo(const Tensor& crows, const Tensor& cols, int64_t rows, int64_t columns, bool batched,
                          int threads) {
  return WithIndex(cols, [&](auto index) {
    using I = decltype(index);
    const auto sparse = RowsOf<I>(crows, cols, rows, columns, threads);
    Tensor indices = Empty({batched ? 3 : 2, sparse.nnz}, cols.dtype());
    I* matrix = Elements<I>(indices);
    I* row_of = matrix + (batched ? sparse.nnz : 0);
    const bool fits = sparse.ForEachRow(threads, [&](int64_t row, int64_t begin, int64_t end) {
      std::fill(row_of + begin, row_of + end, static_cast<I>(row % rows));
      if (batched) std::fill(matrix + begin, matrix + end, static_cast<I>(row / rows));
    });
    PD_CHECK(fits, DEVKIT_BAD_PLACES);
    std::copy_n(sparse.cols, sparse.nnz, row_of + sparse.nnz);
    return std::vector<Tensor>{indices};
  });
}

std::vector<Tensor> SumSegments(const Tensor& values, const Tensor& order, const Tensor& starts, int threads) {
  PD_CHECK(values.numel() == order.numel() && starts.numel() > 0, "Values and places do not fit.");
  Tensor out = Empty({starts.numel() - 1}, values.dtype());
  WithValue(values, [&](auto value) {
    using T = decltype(value);
    devkit::SumSegments(Elements<T>(values), Elements<int64_t>(order), Elements<int64_t>(starts), out.numel(),
                        Elements<T>(out), threads);
    return 0;
  });
  return {out};
}

std::vector<Tensor> SpreadSegments(const Tensor& values, const Tensor& order, const Tensor& starts, int threads) {
  PD_CHECK(values.numel() + 1 == starts.numel(), "Values and places do not fit.");
  Tensor out = Empty({order.numel()}, values.dtype());
  WithValue(values, [&](auto value) {
    using T = decltype(value);
    devkit::SpreadSegments(Elements<T>(values), Elements<int64_t>(order), Elements<int64_t>(starts), values.numel(),
                           Elements<T>(out), threads);
    return 0;
  });
  return {out};
}

}  // namespace

PD_BUILD_OP(devkit_sparse_spmm)
    .Inputs({"Crows", "Cols", "Values", "Dense"})
    .Outputs({"Out"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(Spmm));

PD_BUILD_OP(devkit_sparse_sddmm)
    .Inputs({"Crows", "Cols", "Left", "Right"})
    .Outputs({"Out"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(Sddmm));

PD_BUILD_OP(devkit_sparse_softmax)
    .Inputs({"Crows", "Cols", "Values"})
    .Outputs({"Out"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(Softmax));

PD_BUILD_OP(devkit_sparse_softmax_gradient)
    .Inputs({"Crows", "Cols", "P", "DP"})
    .Outputs({"Out"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(SoftmaxGradient));

PD_BUILD_OP(devkit_sparse_from_coo)
    .Inputs({"Indices"})
    .Outputs({"Crows", "Cols", "Order", "Starts"})
    .Attrs({"batch: int64_t", "rows: int64_t", "columns: int64_t", "join: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(FromCoo));

PD_BUILD_OP(devkit_sparse_union)
    .Inputs({"CrowsA", "ColsA", "CrowsB", "ColsB"})
    .Outputs({"Crows", "Cols", "Order", "Starts"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(Union));

PD_BUILD_OP(devkit_sparse_transpose)
    .Inputs({"Crows", "Cols"})
    .Outputs({"ToCrows", "ToCols", "Order"})
    .Attrs({"rows: int64_t", "columns: int64_t", "threads: int"})
    .SetKernelFn(PD_KERNEL(Transpose));

PD_BUILD_OP(devkit_sparse_to_coo)
    .Inputs({"Crows", "Cols"})
    .Outputs({"Indices"})
    .Attrs({"rows: int64_t", "columns: int64_t", "batched: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(ToCoo));

PD_BUILD_OP(devkit_sparse_sum_segments)
    .Inputs({"Values", "Order", "Starts"})
    .Outputs({"Out"})
    .Attrs({"threads: int"})
    .SetKernelFn(PD_KERNEL(SumSegments));

PD_BUILD_OP(devkit_sparse_spread_segments)
    .Inputs({"Values", "Order", "Starts"})
    .Outputs({"Out"})
    .Attrs({"threads: int"})
    .SetKernelFn(PD_KERNEL(SpreadSegments));
