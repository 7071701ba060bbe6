#include "gemm_cases.h"

#include <cstdlib>
#include <limits>

#include "common/gemm.h"

namespace ribo::kernels {
namespace RIBO_ISA {
namespace {

/// Memory without a standard container (common/isa.h says why), filled with eighths of -32..32.
struct Numbers {
  Numbers(int64_t count, uint32_t seed)
      : data(static_cast<float*>(std::malloc(count * sizeof(float)))) {
    for (int64_t i = 0; i < count; ++i) {
      seed = seed * 1664525u + 1013904223u;
      data[i] = static_cast<float>(static_cast<int>(seed >> 25) - 64) / 8;
    }
  }
  ~Numbers() { std::free(data); }
  Numbers(const Numbers&) = delete;
  float* const data;
};

double error(const GemmCase& c) {
  const int64_t columns = (c.n + kColumns<float> - 1) / kColumns<float> * kColumns<float>;
  const int64_t ldb = columns + 5, ldc = c.n + 3;
  const Numbers a(int64_t{c.m} * c.k + 1, 1), b(c.k * ldb + columns, 2);
  const Numbers before(c.m * ldc + 1, 3), result(c.m * ldc + 1, 3);
  const Numbers panel(packed_size<float>(c.k, c.n) + 1, 4);
  pack<float>(b.data, ldb, 1, c.k, c.n, panel.data);
  const Rows<float> left = c.transposed ? Rows<float>{a.data, 1, c.m} : Rows<float>{a.data, c.k, 1};
  const Panels<float> right = c.packed ? panels(panel.data, c.k) : in_place(b.data, ldb);
  gemm<float>(left, right, result.data, ldc, c.m, c.n, c.k, c.accumulate,
              [](Vec<float> v, int i, int j) { return v + static_cast<float>(7 * i + j / 16); });
  double worst = 0;
  for (int i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const double was = before.data[i * ldc + j], is = result.data[i * ldc + j];
      double want = c.accumulate ? was : 0;
      if (j >= c.n) {
        if (is != was) return std::numeric_limits<double>::infinity();
        continue;
      }
      for (int p = 0; p < c.k; ++p) {
        want += double{left.data[i * left.row + p * left.col]} * double{b.data[p * ldb + j]};
      }
      // `finish` sees the column that its vector begins with.
      want += 7 * i + static_cast<int>(j / lanes<float> * lanes<float>) / 16;
      const double difference = std::fabs(is - want);
      if (!(difference <= worst)) worst = difference;
    }
  }
  return worst;
}

}  // namespace
}  // namespace RIBO_ISA

template <>
double gemm_error<Isa::RIBO_ISA>(const GemmCase& c) {
  return RIBO_ISA::error(c);
}

}  // namespace ribo::kernels
