#include "gemm_cases.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "common/gemm.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

// What is narrow where this file is compiled for bf16.
using Narrow = Stored<Isa::RIBO_ISA, float>;

/// Memory without a standard container (common/isa.h says why), filled with eighths of -64..63.
template <class S = float>
struct Numbers {
  Numbers(int64_t count, uint32_t seed) : data(static_cast<S*>(std::malloc(count * sizeof(S)))) {
    for (int64_t i = 0; i < count; ++i) {
      seed = seed * 1664525u + 1013904223u;
      const float value = static_cast<float>(static_cast<int>(seed >> 25) - 64) / 8;
      store<float>(data + i, broadcast(value), 1);
    }
  }
  ~Numbers() { std::free(data); }
  Numbers(const Numbers&) = delete;
  double operator[](int64_t i) const { return load(data + i, 1)[0]; }
  S* const data;
};

/// Of operands of type S, a product that is stored as an R.
template <class S, class R>
double error(const GemmCase& c) {
  const int64_t columns = (c.n + kColumns<float> - 1) / kColumns<float> * kColumns<float>;
  const bool in_columns = c.right == RightFactor::columns;
  const int64_t ldb = in_columns ? c.k + 3 : columns + 5, ldc = c.n + 3;
  const int64_t b_row = in_columns ? 1 : ldb, b_col = in_columns ? ldb : 1;
  const Numbers<S> a(int64_t{c.m} * c.k + 1, 1), b((in_columns ? c.n : c.k) * ldb + columns, 2);
  const Numbers<R> before(c.m * ldc + 1, 3), result(c.m * ldc + 1, 3);
  const int64_t a_row = c.transposed ? 1 : c.k, a_col = c.transposed ? c.m : 1;
  const auto multiply = [&](auto right) {
    const auto with = [&](auto left) {
      gemm(left, right, result.data, ldc, c.m, c.n, c.k, c.accumulate,
           [](Vec<float> v, int i, int j) { return v + static_cast<float>(7 * i + j / 16); });
    };
    if (c.transposed) {
      with(Transposed<S>{a.data, a_col});
    } else {
      with(Rows<S>{a.data, a_row});
    }
  };
  if constexpr (std::is_same_v<S, float>) {
    const Numbers panel(packed_size<float>(c.k, c.n) + 1, 4);
    pack<float>(b.data, ldb, 1, c.k, c.n, panel.data);
    if (c.right == RightFactor::packed) {
      multiply(Panels<S>{panel.data, c.k});
    } else {
      multiply(InPlace<S>{b.data, ldb});
    }
  } else {
    multiply(Columns<S>{b.data, b_row, b_col});
  }
  double worst = 0;
  for (int i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const double was = before[i * ldc + j], is = result[i * ldc + j];
      if (j >= c.n) {
        if (is != was) return std::numeric_limits<double>::infinity();
        continue;
      }
      // `finish` sees the column that its vector begins with.
      double want = 7 * i + static_cast<int>(j / lanes<float> * lanes<float>) / 16;
      double scale = 1 + want;
      const auto add = [&](double x) {
        want += x;
        scale += std::fabs(x);
      };
      if (c.accumulate) add(was);
      for (int p = 0; p < c.k; ++p) {
        add(a[i * a_row + p * a_col] * b[p * b_row + j * b_col]);
      }
      const double difference = std::fabs(is - want) / scale;
      if (!(difference <= worst)) worst = difference;
    }
  }
  return worst;
}

double error(const GemmCase& c) {
  if (c.right >= RightFactor::rows) return error<Narrow, Narrow>(c);
  return c.narrow ? error<float, Narrow>(c) : error<float, float>(c);
}

}  // namespace
}  // namespace RIBO_ISA

template <>
double gemm_error<Isa::RIBO_ISA>(const GemmCase& c) {
  return RIBO_ISA::error(c);
}

}  // namespace ribo::kernels
