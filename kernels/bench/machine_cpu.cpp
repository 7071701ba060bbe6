#include "bench/machine_cpu.h"

#include "common/vec.h"

namespace ribo::kernels::bench {
namespace RIBO_ISA {

using ribo::kernels::RIBO_ISA::broadcast;
using ribo::kernels::RIBO_ISA::exp2;
using ribo::kernels::RIBO_ISA::lanes;
using ribo::kernels::RIBO_ISA::load;
using ribo::kernels::RIBO_ISA::store;
using ribo::kernels::RIBO_ISA::sum;
using ribo::kernels::RIBO_ISA::Vec;

// As many as hide each other's latency.
constexpr int kVectors = 12;

template <class Step>
float repeat(int64_t count, Step step) {
  Vec<float> x[kVectors];
  for (int k = 0; k < kVectors; ++k) x[k] = broadcast(0.1f * static_cast<float>(k));
  for (int64_t i = 0; i < count; i += kVectors * lanes<float>) step(x);
  Vec<float> total{};
  for (int k = 0; k < kVectors; ++k) total += x[k];
  return sum<float>(total);
}

}  // namespace RIBO_ISA

template <>
float exponentials<Isa::RIBO_ISA>(int64_t count) {
  using namespace RIBO_ISA;
  return repeat(count, [](Vec<float>* x) {
    constexpr int kHalf = kVectors / 2;  // with their constants more would not fit the registers
    exp2<kHalf, /*clamped=*/false>(x);
    exp2<kHalf, /*clamped=*/false>(x + kHalf);
    for (int k = 0; k < kVectors; ++k) x[k] *= 0.5f;  // stays between 0 and 1
  });
}

template <>
float multiply_adds<Isa::RIBO_ISA>(int64_t count) {
  using namespace RIBO_ISA;
  return repeat(count, [](Vec<float>* x) {
    for (int k = 0; k < kVectors; ++k) x[k] = x[k] * 0.5f + 0.25f;
  });
}

template <>
void copy<Isa::RIBO_ISA>(float* to, const float* from, int64_t n) {
  constexpr int kStep = RIBO_ISA::lanes<float>;
  for (int64_t i = 0; i + kStep <= n; i += kStep) {
    RIBO_ISA::store(to + i, RIBO_ISA::load(from + i));
  }
}

}  // namespace ribo::kernels::bench
