// Vectors of float or double in the width of the instruction set that this file is compiled for,
// and the elementary functions that the kernels need. GCC's vector types carry the arithmetic.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

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
template <>
struct VecOf<Bf16> {  // in registers it is float
  using type = VecOf<float>::type;
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
inline constexpr int lanes = kVectorBytes / static_cast<int>(sizeof(T));
template <>
inline constexpr int lanes<Bf16> = lanes<float>;

#if defined(__AVX512F__)
/// All lanes: with it and "maskz" g++ 12 does not warn of its own header.
inline constexpr __mmask16 kAll = 0xffff;

/// n < 16 of a vector's 16 lanes.
[[gnu::always_inline]] inline __mmask16 first_lanes(int n) {
  return static_cast<__mmask16>((1u << n) - 1);
}
#endif

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
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    return reinterpret_cast<Vec<T>>(_mm512_maskz_loadu_ps(first_lanes(n), p));
  }
#endif
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
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    return _mm512_mask_storeu_ps(p, first_lanes(n), reinterpret_cast<__m512>(v));
  }
#endif
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

/// Whether a result of so many values is better written by stream(): no cache would hold it until
/// somebody reads it.
template <class T>
constexpr bool too_large_for_caches(int64_t count) {
  return count * static_cast<int64_t>(sizeof(T)) >= 4 << 20;
}

/// store(), past the caches where the vector is a whole line of theirs, which then need not be read
/// before it is written. Behind the last one a thread calls finish_streams().
template <class T>
[[gnu::always_inline]] inline void stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  if (reinterpret_cast<uintptr_t>(p) % kVectorBytes == 0) {
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), reinterpret_cast<__m512i>(v));
  }
#endif
  store<T>(p, v);
}

/// What stream() wrote is there for all threads before what is written next.
inline void finish_streams() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

/// Asks for what p points to, for the second-level cache. (Were it a call, g++ would drop it as one
/// without an effect.)
[[gnu::always_inline]] inline void bring_near(const void* p) { __builtin_prefetch(p, 0, 2); }

#if defined(__AVX512BF16__)
// Stores round to the nearest; denormals become zeros.
[[gnu::always_inline]] inline Vec<float> widen(__m256i v) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  return reinterpret_cast<Vec<float>>(__builtin_convertvector(reinterpret_cast<Narrow>(v), Wide)
                                      << 16);
}
[[gnu::always_inline]] inline Vec<float> load(const Bf16* p) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
[[gnu::always_inline]] inline Vec<float> load(const Bf16* p, int n) {
  return n == lanes<float> ? load(p) : widen(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
template <class T>
[[gnu::always_inline]] inline void store(Bf16* p, Vec<T> v) {
  const __m256bh narrow = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
  std::memcpy(p, &narrow, sizeof narrow);
}
template <class T>
[[gnu::always_inline]] inline void store(Bf16* p, Vec<T> v, int n) {
  if (n == lanes<float>) return store<T>(p, v);
  const __m256bh narrow = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
  _mm256_mask_storeu_epi16(p, first_lanes(n), reinterpret_cast<__m256i>(narrow));
}
#endif

/// store(), where whole vectors go by stream() if `streamed`; but not bfloat16, of which a vector
/// is half a line.
template <class T, class S>
[[gnu::always_inline]] inline void store(S* p, Vec<T> v, int n, bool streamed) {
  if constexpr (std::is_same_v<S, T>) {
    if (streamed && n == lanes<T>) return stream<T>(p, v);
  }
  store<T>(p, v, n);
}

/// Calls f(i, lanes that are there) for each vector of n values; their number is a constant but for
/// the last.
template <class T, class F>
[[gnu::always_inline]] inline void each_vector(int n, F&& f) {
  int i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) f(i, lanes<T>);
  if (i < n) f(i, n - i);
}

template <class T>
[[gnu::always_inline]] inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

template <class T, int step, int... i>
[[gnu::always_inline]] inline void exchange(Vec<T>& a, Vec<T>& b,
                                            std::integer_sequence<int, i...>) {
  constexpr int n = lanes<T>;
  const Vec<T> low = __builtin_shufflevector(a, b, ((i & step) ? n + i - step : i)...);
  b = __builtin_shufflevector(a, b, ((i & step) ? n + i : i + step)...);
  a = low;
}

/// Rows become columns: blocks of step x step change places across the diagonal, from the largest.
template <class T, int step = lanes<T> / 2>
[[gnu::always_inline]] inline void transpose(Vec<T> (&v)[lanes<T>]) {
#pragma GCC unroll 16
  for (int r = 0; r < lanes<T>; ++r) {
    if (r & step) continue;
    exchange<T, step>(v[r], v[r | step], std::make_integer_sequence<int, lanes<T>>{});
  }
  if constexpr (step > 1) transpose<T, step / 2>(v);
}

/// to[j * to_row + i] = from[i * row + j] for i < rows and j < lanes; zero for rows <= i < lanes.
template <class T>
[[gnu::always_inline]] inline void copy_transposed(const T* from, int64_t row, T* to,
                                                   int64_t to_row, int rows = lanes<T>) {
  Vec<T> v[lanes<T>];
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; ++i) v[i] = i < rows ? load(from + i * row) : Vec<T>{};
  transpose<T>(v);
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; ++i) store<T>(to + i * to_row, v[i]);
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

/// v itself, but g++ does not see where it comes from: for g++ 12, the larger of x and a constant
/// is a comparison and a choice, of which the second takes a multiplier's turn, and not one
/// instruction.
template <class T>
[[gnu::always_inline]] inline Vec<T> opaque(Vec<T> v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}

/// NaN in `a` stays.
template <class T>
[[gnu::always_inline]] inline Vec<T> max(Vec<T> a, Vec<T> b) {
  b = opaque<T>(b);
  return a < b ? b : a;
}

/// NaN in `a` stays.
template <class T>
[[gnu::always_inline]] inline Vec<T> min(Vec<T> a, Vec<T> b) {
  b = opaque<T>(b);
  return a > b ? b : a;
}

template <class T>
[[gnu::always_inline]] inline Vec<T> abs(Vec<T> x) {
  return max<T>(x, -x);
}

/// x[k] = 2^x[k], relative error below 2e-7, exact at 0; never 0: everything below 2^-126 gives
/// that. NaN stays NaN. If not clamped, x[k] must lie in [-126, 127] (but see kExp2Vanishes). The
/// vectors take each step side by side, because one alone would wait for the result of the step
/// before. 2^f = 1 + f q(f) with the minimax q of degree 4 on [-1/2, 1/2].
template <int count, bool clamped = true>
[[gnu::always_inline]] inline void exp2(Vec<float>* x) {
  if constexpr (clamped) {
    for (int k = 0; k < count; ++k) {
      x[k] = min<float>(max<float>(x[k], broadcast(-126.0f)), broadcast(127.0f));
    }
  }
  constexpr float kCoefficients[] = {1.326472767e-3f, 9.671513096e-3f, 5.550733746e-2f,
                                     2.402224208e-1f, 6.931469776e-1f, 1.0f};
  Vec<float> whole[count], p[count];
#if defined(__AVX512F__)
  // AVX-512's own rounding and scaling: nine instructions.
  for (int k = 0; k < count; ++k) {
    const auto part = reinterpret_cast<Vec<float>>(_mm512_reduce_ps(
        reinterpret_cast<__m512>(x[k]), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    whole[k] = x[k] - part;
    x[k] = part;
  }
#else
  for (int k = 0; k < count; ++k) {
    // Adding 1.5 * 2^23 leaves x, rounded to a whole number, in the lowest bits.
    whole[k] = x[k] + 12582912.0f;
    x[k] -= whole[k] - 12582912.0f;
  }
#endif
  for (int k = 0; k < count; ++k) p[k] = broadcast(kCoefficients[0]);
  for (int c = 1; c < 6; ++c) {
    for (int k = 0; k < count; ++k) p[k] = p[k] * x[k] + kCoefficients[c];
  }
  for (int k = 0; k < count; ++k) {
#if defined(__AVX512F__)
    x[k] = reinterpret_cast<Vec<float>>(_mm512_maskz_scalef_ps(kAll, reinterpret_cast<__m512>(p[k]),
                                                               reinterpret_cast<__m512>(whole[k])));
#else
    using I = int32_t __attribute__((vector_size(kVectorBytes)));
    I bits, scaled;
    std::memcpy(&bits, &whole[k], sizeof bits);
    std::memcpy(&scaled, &p[k], sizeof scaled);
    scaled += bits << 23;
    std::memcpy(&x[k], &scaled, sizeof scaled);
#endif
  }
}

/// float64 serves tests, where exactness counts and speed does not.
template <int count, bool clamped = true>
[[gnu::always_inline]] inline void exp2(Vec<double>* x) {
  for (int k = 0; k < count; ++k) {
    Vec<double> y = x[k];
    for (int i = 0; i < lanes<double>; ++i) y[i] = std::exp2(y[i]);
    x[k] = y;
  }
}

template <class V>
[[gnu::always_inline]] inline V exp2(V x) {
  exp2<1>(&x);
  return x;
}

/// Whether exp2() that is not clamped takes anything below -126, too, and makes 0 of it.
#if defined(__AVX512F__)
inline constexpr bool kExp2Vanishes = true;
#else
inline constexpr bool kExp2Vanishes = false;
#endif

inline constexpr double kLog2E = 1.4426950408889634074;

[[gnu::always_inline]] inline Vec<float> exp(Vec<float> x) {
  return exp2(x * static_cast<float>(kLog2E));
}
[[gnu::always_inline]] inline Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < lanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

/// 1 / x for a finite x whose inverse is finite, too; 0 or less than 2^-126 where x is above 2^126.
/// Division of AVX-512's vectors is slow: an estimate of 14 bits and a step of Newton's method take
/// a third of its time and leave a relative error of 1e-7.
template <class T>
[[gnu::always_inline]] inline Vec<T> reciprocal(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    const auto r =
        reinterpret_cast<Vec<T>>(_mm512_maskz_rcp14_ps(kAll, reinterpret_cast<__m512>(x)));
    return r + r * (T{1} - x * r);
  }
#endif
  return T{1} / x;
}

/// log(1 + t) for 0 <= t <= 1, as 2 atanh(t / (2 + t)): keeps the relative error of small t. The
/// polynomial is atanh's minimax one.
[[gnu::always_inline]] inline Vec<float> log1p_unit(Vec<float> t) {
  const Vec<float> s = t * reciprocal<float>(t + 2.0f), q = s * s;
  Vec<float> p = q * 0.1400600186f + 0.1400090106f;
  p = p * q + 0.2001076371f;
  p = p * q + 0.3333320814f;
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
  return reciprocal<T>(T{1} + exp(-x));
}

}  // namespace RIBO_ISA
}  // namespace ribo::kernels
