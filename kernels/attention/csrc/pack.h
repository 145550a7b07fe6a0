// Copies of a tile of rows in the order in which the micro-kernel reads them.
#pragma once

#include <type_traits>

#include "element.h"
#include "micro_kernel.h"

namespace devkit {
namespace DEVKIT_ISA {

// Rows of one head: row i starts at data + i * stride, in elements.
template <typename T>
struct RowsOf {
  const T* data;
  int64_t stride;
  DEVKIT_INLINE const T* operator[](int64_t i) const { return data + i * stride; }
};

// The same of a type that is known when it runs: only copies depend on it.
struct Rows {
  char* data;
  int64_t stride, dtype;

  // What begins `elements` into a tensor.
  DEVKIT_INLINE static Rows In(const void* tensor, int64_t elements, int64_t stride, int64_t dtype) {
    char* data = static_cast<char*>(const_cast<void*>(tensor));
    return {data + elements * SizeOf(dtype), stride, dtype};
  }
  DEVKIT_INLINE Rows From(int64_t i) const { return {data + i * stride * SizeOf(dtype), stride, dtype}; }

  template <typename Run>
  DEVKIT_INLINE void As(Run run) const {
    WithElement(dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      run(RowsOf<T>{reinterpret_cast<const T*>(data), stride});
    });
  }
};

// Rows of one head lie far apart, often each in a page of its own: the processor does not foresee them. They are called
// into the second-level cache so many before their turn.
constexpr int64_t kRowsAhead = 8;

template <typename T>
DEVKIT_INLINE void Prefetch(const T* row, int64_t width) {
  for (int64_t j = 0; j < width; j += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + j, 0, 2);
}

// [rows, width] -> panels of kColumns: element (i, j) at panels[(j / kColumns) * height * kColumns + i * kColumns +
// j % kColumns]; columns from width to a multiple of kColumns, and rows from `rows` to `height`, are 0. Tells whether
// all elements are finite.
template <typename T>
bool PackByRow(RowsOf<T> from, int64_t rows, int64_t width, int64_t height, float* panels) {
  Vec zeros = Zero();
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = from[i];
    if (i + kRowsAhead < rows) Prefetch(from[i + kRowsAhead], width);
    float* panel = panels + i * kColumns;
    for (int64_t j = 0; j < width; j += kColumns, panel += height * kColumns) {
      const int64_t count = Least(kColumns, width - j);
      if (count == kColumns) {
        const Vec low = Load(row + j), high = Load(row + j + kLanes);
        Store(panel, low);
        Store(panel + kLanes, high);
        zeros = Fma(high, Zero(), Fma(low, Zero(), zeros));
        continue;
      }
      for (int64_t c = 0; c < kColumns; ++c) panel[c] = c < count ? ToFloat(row[j + c]) : 0.0f;
      zeros = Fma(Load(panel + kLanes), Zero(), Fma(Load(panel), Zero(), zeros));
    }
  }
  for (int64_t j = 0; j < width; j += kColumns)
    Fill(panels + j * height + rows * kColumns, (height - rows) * kColumns, 0.0f);
  return SumOfLanes(zeros) == 0;
}

// [rows, width] -> transposed panels of kColumns rows: element (i, j) at panels[(i / kColumns) * width * kColumns +
// j * kColumns + i % kColumns]; rows up to a multiple of kColumns are 0.
template <typename T>
void PackTransposed(RowsOf<T> from, int64_t rows, int64_t width, float* panels) {
  constexpr int64_t kBlock = 8;
  static_assert(kRowsAhead >= kBlock);
  for (int64_t i = 0; i < RoundUp(rows, kColumns); i += kBlock) {
    float* to = panels + (i / kColumns) * width * kColumns + i % kColumns;
    for (int64_t r = i + kRowsAhead; r < Least(i + kRowsAhead + kBlock, rows); ++r) Prefetch(from[r], width);
    int64_t j = 0;
#ifdef DEVKIT_TRANSPOSE
    if (i + kBlock <= rows) {
      for (; j + kBlock <= width; j += kBlock) {
        __m256 block[kBlock];
        for (int64_t r = 0; r < kBlock; ++r) block[r] = Load8(from[i + r] + j);
        Transpose8x8(block, to + j * kColumns, kColumns);
      }
    }
#endif
    for (; j < width; ++j)
      for (int64_t r = 0; r < kBlock; ++r)
        to[j * kColumns + r] = i + r < rows ? ToFloat(from[i + r][j]) : 0.0f;
  }
}

// [rows, width], times `factor`, row after row without gaps; rows up to a multiple of kRows are 0.
template <typename T>
void PackScaled(RowsOf<T> from, int64_t rows, int64_t width, float factor, float* to) {
  for (int64_t i = 0; i < rows; ++i, to += width) {
    const T* row = from[i];
    for (int64_t j = 0; j < width; ++j) to[j] = ToFloat(row[j]) * factor;
  }
  Fill(to, (RoundUp(rows, kRows) - rows) * width, 0.0f);
}

// [rows, width], times `factor`, to rows of the tensor's type.
inline void Unpack(const float* from, int64_t from_stride, int64_t rows, int64_t width, const float* factors,
                   float factor, Rows to) {
  to.As([&](auto typed) {
    for (int64_t i = 0; i < rows; ++i) {
      auto* row = const_cast<std::remove_const_t<std::remove_pointer_t<decltype(typed[i])>>*>(typed[i]);
      const float times = factors == nullptr ? factor : factors[i] * factor;
      // 0 times what is not a number is not 0.
      for (int64_t j = 0; j < width; ++j) FromFloat(times == 0 ? 0.0f : from[i * from_stride + j] * times, row + j);
    }
  });
}

#ifdef DEVKIT_PAIRS

DEVKIT_INLINE float WordOf(BFloat16 low, BFloat16 high) {
  return FromBits(low.bits | static_cast<uint32_t>(high.bits) << 16);
}

// As PackByRow, of words of two rows: word (i, j) holds elements (2 i, j) and (2 i + 1, j); `height` counts words.
inline bool PackByRowPairs(RowsOf<BFloat16> from, int64_t rows, int64_t width, int64_t height, float* panels) {
  Vec zeros = Zero();
  const BFloat16 zero{0};
  for (int64_t j = 0; j < width; j += kColumns) {
    float* panel = panels + j * height;
    for (int64_t i = 0; i < rows; i += 2, panel += kColumns) {
      const BFloat16* low = from[i] + j;
      const BFloat16* high = from[i + 1 < rows ? i + 1 : i] + j;
      for (int64_t c = 0; c < kColumns; c += kLanes) {
        if (j + c + kLanes <= width) {
          const Vec second = i + 1 < rows ? Load(high + c) : Zero();
          Store(panel + c, Pairs(Load(low + c), second));
          zeros = Fma(second, Zero(), Fma(Load(low + c), Zero(), zeros));
          continue;
        }
        for (int64_t lane = c; lane < c + kLanes; ++lane) {
          const bool inside = j + lane < width;
          const BFloat16 l = inside ? low[lane] : zero, h = inside && i + 1 < rows ? high[lane] : zero;
          panel[lane] = WordOf(l, h);
          zeros = Fma(Broadcast(ToFloat(l)), Zero(), Fma(Broadcast(ToFloat(h)), Zero(), zeros));
        }
      }
    }
    Fill(panel, (height - (rows + 1) / 2) * kColumns, 0.0f);
  }
  return SumOfLanes(zeros) == 0;
}

// Rows as words: elements 2 j and 2 j + 1 of a row are beside each other already, where width is even.
// `scratch` holds a row's words for each of `rows` where it is not.
inline RowsOf<float> AsWords(RowsOf<BFloat16> from, int64_t rows, int64_t width, float* scratch) {
  if (width % 2 == 0) return {reinterpret_cast<const float*>(from.data), from.stride / 2};
  const int64_t words = (width + 1) / 2;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < words; ++j)
      scratch[i * words + j] = WordOf(from[i][2 * j], 2 * j + 1 < width ? from[i][2 * j + 1] : BFloat16{0});
  return {scratch, words};
}

// Row after row without gaps, in words, times 1, -1 or 0; rows up to a multiple of kRows are 0.
inline void PackWords(RowsOf<BFloat16> from, int64_t rows, int64_t width, float factor, float* to) {
  const int64_t words = (width + 1) / 2;
  for (int64_t i = 0; i < rows; ++i, to += words) {
    for (int64_t j = 0; j < words; ++j) {
      BFloat16 low = from[i][2 * j], high = 2 * j + 1 < width ? from[i][2 * j + 1] : BFloat16{0};
      if (factor != 1) {
        FromFloat(ToFloat(low) * factor, &low);
        FromFloat(ToFloat(high) * factor, &high);
      }
      to[j] = WordOf(low, high);
    }
  }
  Fill(to, (RoundUp(rows, kRows) - rows) * words, 0.0f);
}

#endif

// The packings in words: of floats, whatever the rows are; of pairs, for rows of bfloat16.
template <class Word>
struct Pack;

template <>
struct Pack<Floats> {
  static bool ByRow(Rows from, int64_t rows, int64_t width, int64_t height, float* to) {
    bool finite = true;
    from.As([&](auto typed) { finite = PackByRow(typed, rows, width, height, to); });
    return finite;
  }
  static void Transposed(Rows from, int64_t rows, int64_t width, float*, float* to) {
    from.As([&](auto typed) { PackTransposed(typed, rows, width, to); });
  }
  static void Scaled(Rows from, int64_t rows, int64_t width, float factor, float* to) {
    from.As([&](auto typed) { PackScaled(typed, rows, width, factor, to); });
  }
};

#ifdef DEVKIT_PAIRS
template <>
struct Pack<BFloat16Pairs> {
  static RowsOf<BFloat16> Of(Rows from) { return {reinterpret_cast<const BFloat16*>(from.data), from.stride}; }
  static bool ByRow(Rows from, int64_t rows, int64_t width, int64_t height, float* to) {
    return PackByRowPairs(Of(from), rows, width, height / 2, to);
  }
  static void Transposed(Rows from, int64_t rows, int64_t width, float* scratch, float* to) {
    PackTransposed(AsWords(Of(from), rows, width, scratch), rows, (width + 1) / 2, to);
  }
  static void Scaled(Rows from, int64_t rows, int64_t width, float factor, float* to) {
    PackWords(Of(from), rows, width, factor, to);
  }
};
using ChosenWord = BFloat16Pairs;
#else
using ChosenWord = Floats;
#endif

}  // namespace DEVKIT_ISA
}  // namespace devkit
