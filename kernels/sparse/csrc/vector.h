// 32 bytes of numbers at a time, by the compiler's vector types: eight floats or four doubles.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __FMA__
#include <immintrin.h>
#endif

namespace devkit {

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(32)));
};

template <typename T>
using Vec = typename VectorOf<T>::Type;

template <typename T>
constexpr int64_t kLanes = 32 / sizeof(T);

template <typename T>
inline Vec<T> Load(const T* from) {
  Vec<T> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

template <typename T>
inline void Store(T* to, Vec<T> x) {
  std::memcpy(to, &x, sizeof x);
}

template <typename T>
inline Vec<T> Broadcast(T x) {
  return x - Vec<T>{};
}

// x y + z, rounded once where the processor can: the compiler would not do it by itself in ISO C++.
inline Vec<float> Fma(Vec<float> x, Vec<float> y, Vec<float> z) {
#ifdef __FMA__
  return _mm256_fmadd_ps(x, y, z);
#else
  return x * y + z;
#endif
}

inline Vec<double> Fma(Vec<double> x, Vec<double> y, Vec<double> z) {
#ifdef __FMA__
  return _mm256_fmadd_pd(x, y, z);
#else
  return x * y + z;
#endif
}

// The sum of the lanes, halves first: the same order whatever the compiler makes of it.
template <typename T>
inline T SumOfLanes(Vec<T> x) {
  T lane[kLanes<T>];
  std::memcpy(lane, &x, sizeof x);
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

}  // namespace devkit
