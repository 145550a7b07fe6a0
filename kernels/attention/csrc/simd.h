// The vector type that the kernels are written in, for the instruction set DEVKIT_ISA: everything that a processor has
// of its own is in the header chosen here. All is in a namespace of that name, since the objects of several
// instruction sets are linked together.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#if defined(DEVKIT_AVX512)
#include "simd_avx512.h"
#elif defined(DEVKIT_AVX2)
#include "simd_avx2.h"
#else
#include "simd_generic.h"
#endif

#define DEVKIT_INLINE [[gnu::always_inline]] inline

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kHalves = 2;
constexpr int64_t kColumns = kHalves * kLanes;  // columns of a micro-tile, and of a panel
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLog2E = 1.4426950408889634;

DEVKIT_INLINE constexpr int64_t DivideUp(int64_t x, int64_t y) { return (x + y - 1) / y; }
DEVKIT_INLINE constexpr int64_t RoundUp(int64_t x, int64_t y) { return (x + y - 1) / y * y; }
DEVKIT_INLINE constexpr int64_t RoundDown(int64_t x, int64_t y) { return x / y * y; }
DEVKIT_INLINE constexpr int64_t Least(int64_t x, int64_t y) { return x < y ? x : y; }
DEVKIT_INLINE constexpr int64_t Most(int64_t x, int64_t y) { return x < y ? y : x; }
DEVKIT_INLINE constexpr int64_t Within(int64_t x, int64_t low, int64_t high) { return Least(Most(x, low), high); }

// 2 to the x for x <= 127: 2^n 2^f with n the nearest integer and f within half of zero, 2^f by a polynomial with a
// relative error of 2e-7. From -126.5 down the result is exactly 0, so a masked score of -inf weighs nothing.
DEVKIT_INLINE Vec Exp2(Vec x) {
  // Adding this leaves n + 127 in the low bits of the sum: shifted into the exponent's place, they are 2^n.
  const Vec magic = Broadcast(12582912.0f + 127.0f);
  x = Max(Broadcast(-127.0f), x);
  const Vec shifted = Add(x, magic);
  const Vec f = Sub(x, Sub(shifted, magic));
  Vec p = Broadcast(0.0013264727f);
  p = Fma(p, f, Broadcast(0.009671513f));
  p = Fma(p, f, Broadcast(0.055507336f));
  p = Fma(p, f, Broadcast(0.24022242f));
  p = Fma(p, f, Broadcast(0.693147f));
  p = Fma(p, f, Broadcast(1.0f));
  return Mul(p, LowBitsToExponent(shifted));
}

// Memory on a cache line's boundary.
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(Allocate(count)) {}
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  DEVKIT_INLINE float* get() const { return data_; }

 private:
  static float* Allocate(int64_t count) {
    void* memory = std::aligned_alloc(64, RoundUp(Most(count, 1), 16) * sizeof(float));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<float*>(memory);
  }
  float* data_;
};

DEVKIT_INLINE void Fill(float* to, int64_t count, float x) {
  for (int64_t i = 0; i < count; ++i) to[i] = x;
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
