// What tensors are made of: float, or bfloat16 and float16 that are computed with as float.
#pragma once

#include "problem.h"
#include "simd.h"

namespace devkit {
namespace DEVKIT_ISA {

struct BFloat16 {
  uint16_t bits;  // the upper half of a float
};

struct Float16 {
  uint16_t bits;
};

DEVKIT_INLINE float FromBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
DEVKIT_INLINE uint32_t ToBits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

DEVKIT_INLINE float ToFloat(float x) { return x; }
DEVKIT_INLINE float ToFloat(BFloat16 x) { return FromBits(static_cast<uint32_t>(x.bits) << 16); }
DEVKIT_INLINE float ToFloat(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(x.bits & 0x7FFF) << 13;
  if (rest >= 0x0F800000) return FromBits(sign | 0x7F800000 | rest);       // infinity, or not a number
  return FromBits(sign | ToBits(FromBits(rest) * FromBits(0x77800000)));  // times 2^112: subnormals come out right too
}

DEVKIT_INLINE void FromFloat(float x, float* to) { *to = x; }

// Rounds to the nearest, and to the even of two; what is not a number stays so.
DEVKIT_INLINE void FromFloat(float x, BFloat16* to) {
  const uint32_t bits = ToBits(x);
  to->bits = static_cast<uint16_t>(x != x ? 0x7FC0 : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
DEVKIT_INLINE void FromFloat(float x, Float16* to) {
  const uint32_t sign = (ToBits(x) >> 16) & 0x8000;
  const float size = FromBits(ToBits(x) & 0x7FFFFFFF);
  uint32_t bits;
  if (x != x) {
    bits = 0x7E00;
  } else if (size >= 65520.0f) {
    bits = 0x7C00;
  } else if (size < 6.103515625e-05f) {  // subnormal: the sum's last bits are the result
    bits = ToBits(size + 0.5f) - ToBits(0.5f);
  } else {
    const uint32_t wide = ToBits(size);
    bits = (wide - 0x38000000 + 0xFFF + ((wide >> 13) & 1)) >> 13;
  }
  to->bits = static_cast<uint16_t>(sign | bits);
}

DEVKIT_INLINE Vec Load(const BFloat16* address) { return LoadBFloat16(&address->bits); }
DEVKIT_INLINE Vec Load(const Float16* address) {
#ifdef DEVKIT_TRANSPOSE
  return LoadFloat16(&address->bits);
#else
  float parts[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) parts[i] = ToFloat(address[i]);
  return Load(parts);
#endif
}

#ifdef DEVKIT_TRANSPOSE
DEVKIT_INLINE __m256 Load8(const BFloat16* address) { return Load8BFloat16(&address->bits); }
DEVKIT_INLINE __m256 Load8(const Float16* address) { return Load8Float16(&address->bits); }
#endif

DEVKIT_INLINE int64_t SizeOf(int64_t dtype) { return static_cast<Dtype>(dtype) == Dtype::kFloat32 ? 4 : 2; }

// Calls `run` with a null pointer of the element's type.
template <typename Run>
DEVKIT_INLINE void WithElement(int64_t dtype, Run run) {
  switch (static_cast<Dtype>(dtype)) {
    case Dtype::kBFloat16:
      return run(static_cast<BFloat16*>(nullptr));
    case Dtype::kFloat16:
      return run(static_cast<Float16*>(nullptr));
    default:
      return run(static_cast<float*>(nullptr));
  }
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
