#include "bench/bench.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>

#include "bench/machine.h"
#include "core/keep_memory.h"

namespace ribo::kernels::bench {
namespace {

void report(benchmark::State& state, const Work& work, int threads, double fastest) {
  state.counters["fastest"] = 1e3 * fastest;
  const auto rate = [&](const char* name, double amount) {
    if (amount > 0) state.counters[name] = amount / fastest;
  };
  rate("bytes", work.bytes);
  rate("exps", work.exps);
  rate("ops", work.ops);
  rate("products", work.products);
  const char* bound = "";
  const double least = least_seconds(work, threads, bound);
  if (least == 0) return;
  state.counters["limit"] = 100 * least / fastest;
  state.SetLabel(bound);
}

}  // namespace

Work operator+(const Work& a, const Work& b) {
  return {a.bytes + b.bytes, a.exps + b.exps, a.ops + b.ops, a.products + b.products};
}

void add(const std::string& name, const Work& work,
         const std::function<std::function<void()>()>& prepare) {
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark(
        (name + "/threads=" + std::to_string(threads)).c_str(),
        [=](benchmark::State& state) {
          using Clock = std::chrono::steady_clock;
          at::set_num_threads(threads);
          const std::function<void()> call = prepare();
          call();  // memory pools, thread pools
          double fastest = 1e30;
          for (auto _ : state) {
            const auto start = Clock::now();
            call();
            fastest =
                std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
          }
          report(state, work, threads, fastest);
        })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

void add_passes(const std::string& name, const Work& forward, const Work& backward,
                const std::function<Problem()>& make) {
  add(name + "/f", forward, [make] {
    return [problem = make()] {
      const at::NoGradGuard no_grad;
      problem.forward();
    };
  });
  add(name + "/f+b", forward + backward, [make] {
    Problem problem = make();
    const at::Tensor gradient = at::randn_like(problem.forward());
    return [problem, gradient] {
      for (const at::Tensor& x : problem.inputs) x.mutable_grad().reset();
      torch::autograd::backward({problem.forward()}, {gradient});
    };
  });
}

at::Tensor leaf(at::IntArrayRef shape, double scale) {
  return at::randn(shape).mul_(scale).set_requires_grad(true);
}

}  // namespace ribo::kernels::bench

int main(int argc, char** argv) {
  using namespace ribo::kernels::bench;
  ribo::keep_memory();
  at::manual_seed(1);
  add_machine();
  add_selective_scan();
  add_conv1d();
  add_outer_product_mean();
  add_attention();
  add_pair_transition();
  add_triangle_multiply();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
