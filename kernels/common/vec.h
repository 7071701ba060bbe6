// Vectors of float or double in the width of the instruction set that this file is compiled for,
// and the elementary functions that the kernels need. GCC's vector types carry the arithmetic.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/isa.h"

namespace ribo::kernels {
namespace RIBO_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
inline constexpr int lanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
[[gnu::always_inline]] inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// The first n lanes, 0 <= n <= lanes; zeros behind them.
template <class T>
[[gnu::always_inline]] inline Vec<T> load(const T* p, int n) {
  if (n == lanes<T>) return load(p);
  Vec<T> v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

template <class T>
[[gnu::always_inline]] inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <class T>
[[gnu::always_inline]] inline void store(T* p, Vec<T> v, int n) {
  if (n == lanes<T>) return store<T>(p, v);
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

template <class T>
[[gnu::always_inline]] inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

/// Lanes added from the first to the last half, pairwise: the order does not depend on the data.
template <class T>
[[gnu::always_inline]] inline T sum(Vec<T> v) {
  T part[lanes<T>];
  std::memcpy(part, &v, sizeof v);
  for (int n = lanes<T> / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) part[i] += part[i + n];
  }
  return part[0];
}

/// NaN in `a` stays.
template <class T>
[[gnu::always_inline]] inline Vec<T> max(Vec<T> a, Vec<T> b) {
  return a < b ? b : a;
}

/// NaN in `a` stays.
template <class T>
[[gnu::always_inline]] inline Vec<T> min(Vec<T> a, Vec<T> b) {
  return a > b ? b : a;
}

template <class T>
[[gnu::always_inline]] inline Vec<T> abs(Vec<T> x) {
  return max<T>(x, -x);
}

/// 2^x, relative error below 2e-7; never 0: everything below 2^-126 gives that. NaN stays NaN.
/// Coefficients: Cephes, exp2f.
[[gnu::always_inline]] inline Vec<float> exp2(Vec<float> x) {
  using I = int32_t __attribute__((vector_size(kVectorBytes)));
  x = min<float>(max<float>(x, broadcast(-126.0f)), broadcast(127.0f));
  // Adding 1.5 * 2^23 leaves x, rounded to a whole number, in the lowest bits.
  const Vec<float> shifted = x + 12582912.0f;
  const Vec<float> f = x - (shifted - 12582912.0f);
  I bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  Vec<float> p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  I scaled;
  std::memcpy(&scaled, &p, sizeof scaled);
  scaled += bits << 23;
  std::memcpy(&p, &scaled, sizeof p);
  return p;
}

/// float64 serves tests, where exactness counts and speed does not.
[[gnu::always_inline]] inline Vec<double> exp2(Vec<double> x) {
  for (int i = 0; i < lanes<double>; ++i) x[i] = std::exp2(x[i]);
  return x;
}

inline constexpr double kLog2E = 1.4426950408889634074;

[[gnu::always_inline]] inline Vec<float> exp(Vec<float> x) {
  return exp2(x * static_cast<float>(kLog2E));
}
[[gnu::always_inline]] inline Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < lanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

/// log(1 + t) for 0 <= t <= 1, as 2 atanh(t / (2 + t)): keeps the relative error of small t.
[[gnu::always_inline]] inline Vec<float> log1p_unit(Vec<float> t) {
  const Vec<float> s = t / (t + 2.0f), q = s * s;
  Vec<float> p = q * (1.0f / 15) + 1.0f / 13;
  p = p * q + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  p = p * q + 1.0f;
  return 2.0f * s * p;
}
[[gnu::always_inline]] inline Vec<double> log1p_unit(Vec<double> t) {
  for (int i = 0; i < lanes<double>; ++i) t[i] = std::log1p(t[i]);
  return t;
}

/// log(1 + exp(x)), without overflow.
template <class T>
[[gnu::always_inline]] inline Vec<T> softplus(Vec<T> x) {
  return max<T>(x, Vec<T>{}) + log1p_unit(exp(-abs<T>(x)));
}

/// 1 / (1 + exp(-x)), without overflow.
template <class T>
[[gnu::always_inline]] inline Vec<T> sigmoid(Vec<T> x) {
  return T{1} / (T{1} + exp(-x));
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
