// DEVKIT_LANES floats at a time by the compiler's own vectors: whatever the processor has, NEON among it. With
// DEVKIT_PAIRS, products of pairs of bfloat16 too, by shifts.
#pragma once

#include <cstdint>
#include <cstring>

#ifndef DEVKIT_LANES
#ifdef __aarch64__
#define DEVKIT_LANES 8
#else
#define DEVKIT_LANES 4
#endif
#endif

namespace devkit {
namespace DEVKIT_ISA {

constexpr int64_t kLanes = DEVKIT_LANES;
#ifdef DEVKIT_TILES
constexpr int64_t kRows = 16;
#elif DEVKIT_LANES == 16
constexpr int64_t kRows = 12;
#elif DEVKIT_LANES == 8
constexpr int64_t kRows = 6;
#else
constexpr int64_t kRows = 4;
#endif
typedef float Vec __attribute__((vector_size(4 * DEVKIT_LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * DEVKIT_LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * DEVKIT_LANES)));

[[gnu::always_inline]] inline Vec Load(const float* address) {
  Vec x;
  std::memcpy(&x, address, sizeof x);
  return x;
}
[[gnu::always_inline]] inline Ints LoadInts(const int32_t* address) {
  Ints x;
  std::memcpy(&x, address, sizeof x);
  return x;
}
[[gnu::always_inline]] inline Words LoadHalves(const uint16_t* address) {
  Words x;
  for (int i = 0; i < kLanes; ++i) x[i] = address[i];
  return x;
}
[[gnu::always_inline]] inline Vec LoadBFloat16(const uint16_t* address) { return (Vec)(LoadHalves(address) << 16); }
[[gnu::always_inline]] inline void Store(float* address, Vec x) { std::memcpy(address, &x, sizeof x); }
[[gnu::always_inline]] inline Vec Zero() { return Vec{}; }
[[gnu::always_inline]] inline Vec Broadcast(float x) { return x - Vec{}; }
[[gnu::always_inline]] inline Vec Add(Vec x, Vec y) { return x + y; }
[[gnu::always_inline]] inline Vec Sub(Vec x, Vec y) { return x - y; }
[[gnu::always_inline]] inline Vec Mul(Vec x, Vec y) { return x * y; }
[[gnu::always_inline]] inline Vec Fma(Vec x, Vec y, Vec z) { return x * y + z; }

// x where `which` is set, y in the other lanes.
[[gnu::always_inline]] inline Vec Select(Ints which, Vec x, Vec y) {
  return (Vec)(((Ints)x & which) | ((Ints)y & ~which));
}

// The larger of the two, and y where either is not a number.
[[gnu::always_inline]] inline Vec Max(Vec x, Vec y) { return Select(x > y, x, y); }

[[gnu::always_inline]] inline float SumOfLanes(Vec x) {
  float parts[kLanes];
  std::memcpy(parts, &x, sizeof x);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) parts[i] += parts[i + width];
  return parts[0];
}

// The sums of the lanes of four vectors, to `to`.
[[gnu::always_inline]] inline void SumsOfLanes(Vec a, Vec b, Vec c, Vec d, float* to) {
  to[0] = SumOfLanes(a);
  to[1] = SumOfLanes(b);
  to[2] = SumOfLanes(c);
  to[3] = SumOfLanes(d);
}

[[gnu::always_inline]] inline float MaxOfLanes(Vec x) {
  float largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

[[gnu::always_inline]] inline Vec LowBitsToExponent(Vec x) { return (Vec)((Words)x << 23); }

[[gnu::always_inline]] inline Ints LaneNumbers() {
  Ints x;
  for (int i = 0; i < kLanes; ++i) x[i] = i;
  return x;
}

// x in the lanes from `low` to before `high`, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepRange(Vec x, int low, int high, Vec other) {
  const Ints lane = LaneNumbers();
  return Select((lane >= low) & (lane < high), x, other);
}

// x in the lanes where row is not from start to before end, `other` in the rest.
[[gnu::always_inline]] inline Vec KeepOutside(Vec x, const int32_t* start, const int32_t* end, int32_t row, Vec other) {
  return Select((LoadInts(start) <= row) & (LoadInts(end) > row), other, x);
}

#ifdef DEVKIT_PAIRS
// A word holds two bfloat16: sums + x.low y.low + x.high y.high, lane by lane.
[[gnu::always_inline]] inline Vec DotPairs(Vec x, Vec y, Vec sums) {
  const Words high = Words{} + 0xFFFF0000u;
  sums = Fma((Vec)((Words)x << 16), (Vec)((Words)y << 16), sums);
  return Fma((Vec)((Words)x & high), (Vec)((Words)y & high), sums);
}
// Rounded to the nearest bfloat16, the even of two, in the high halves.
[[gnu::always_inline]] inline Words ToBFloat16(Vec x) {
  const Words bits = (Words)x;
  const Words rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  return (Words)Select(x == x, (Vec)rounded, (Vec)(Words{} + 0x7FC00000u)) & 0xFFFF0000u;
}
// Words of two floats rounded to bfloat16: `low` in the low halves.
[[gnu::always_inline]] inline Vec Pairs(Vec low, Vec high) { return (Vec)((ToBFloat16(low) >> 16) | ToBFloat16(high)); }
[[gnu::always_inline]] inline void StoreBFloat16(uint16_t* address, Vec x) {
  const Words bits = ToBFloat16(x);
  for (int i = 0; i < kLanes; ++i) address[i] = static_cast<uint16_t>(bits[i] >> 16);
}
#endif

[[gnu::always_inline]] inline void Pause() {
#if defined(__aarch64__)
  asm volatile("yield");
#elif defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
