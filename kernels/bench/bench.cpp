#include "bench/bench.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>

#include "bench/gpu.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "core/keep_memory.h"

namespace ribo::kernels::bench {
namespace {

void report(benchmark::State& state, const Work& work, int threads, double fastest) {
  report_rates(state, work, fastest);
  const char* bound = "";
  const double least = least_seconds(work, threads, bound);
  report_limit(state, least, bound, fastest);
}

Call forward_pass(const Problem& problem) {
  return [problem] {
    const at::NoGradGuard no_grad;
    problem.forward();
  };
}

Call both_passes(const Problem& problem) {
  const at::Tensor gradient = at::randn_like(problem.forward());
  return [problem, gradient] {
    for (const at::Tensor& x : problem.inputs) x.mutable_grad().reset();
    torch::autograd::backward({problem.forward()}, {gradient});
  };
}

Call backward_pass(const Problem& problem) {
  const at::Tensor out = problem.forward(), gradient = at::randn_like(out);
  return [problem, out, gradient] {
    torch::autograd::grad({out}, problem.inputs, {gradient}, /*retain_graph=*/true);
  };
}

Setting on_gpu(Setting setting, at::ScalarType type) {
  setting.stored = at::TensorOptions(at::kCUDA).dtype(type);
  setting.shape += type == at::kFloat ? ",float32" : ",bfloat16";
  return setting;
}

}  // namespace

Work operator+(const Work& a, const Work& b) {
  return {a.bytes + b.bytes, a.exps + b.exps, a.ops + b.ops, a.products + b.products};
}

Work operator*(double times, const Work& work) {
  return {times * work.bytes, times * work.exps, times * work.ops, times * work.products};
}

void add(const std::string& name, const Work& work, const std::function<Call()>& prepare) {
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark(
        (name + "/threads=" + std::to_string(threads)).c_str(),
        [=](benchmark::State& state) {
          using Clock = std::chrono::steady_clock;
          at::set_num_threads(threads);
          const Call call = prepare();
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

void add_passes(const std::string& name, const Setting& setting, const Least& least,
                const std::function<Problem()>& make) {
  const auto add_pass = [&](const char* direction, const Work& work, Call (*pass)(const Problem&)) {
    const std::string whole = name + "/" + setting.shape + "/" + direction;
    if (setting.on_gpu()) {
      add_on_gpu(whole, work, make, pass);
    } else {
      add(whole, work, [=] { return pass(make()); });
    }
  };
  add_pass("f", least.forward, forward_pass);
  if (setting.on_gpu()) add_pass("b", least.backward, backward_pass);
  add_pass("f+b", least.forward + least.backward + Work{.bytes = least.kept}, both_passes);
}

at::Tensor Setting::leaf(at::IntArrayRef sizes, double scale) const {
  return at::randn(sizes, stored).mul_(scale).set_requires_grad(true);
}

at::Tensor Setting::weight(at::IntArrayRef sizes) const {
  return at::randn(sizes, stored.dtype(at::kFloat)).set_requires_grad(true);
}

Setting on_cpu(int64_t batch, int64_t length, int64_t channels) {
  const std::string shape = "L=" + std::to_string(length);
  return {batch == 1 ? shape : "B=" + std::to_string(batch) + "," + shape, batch, length, channels};
}

std::vector<Setting> sequences_on_gpu(const std::vector<at::ScalarType>& types) {
  std::vector<Setting> settings;
  if (!has_gpu()) return settings;
  for (const Setting& size : {on_cpu(64, 177, 512), on_cpu(8, 4096, 1024)}) {
    for (const at::ScalarType type : types) {
      settings.push_back(on_gpu(size, type));
    }
  }
  return settings;
}

std::vector<Setting> pair_settings() {
  std::vector<Setting> settings = {on_cpu(1, 177, 0)};
  if (has_gpu()) settings.push_back(on_gpu(on_cpu(8, 177, 0), at::kBFloat16));
  return settings;
}

}  // namespace ribo::kernels::bench

int main(int argc, char** argv) {
  using namespace ribo::kernels::bench;
  ribo::keep_memory();
  at::manual_seed(1);
  add_machine();
  if (has_gpu()) add_gpu();
  add_selective_scan();
  add_conv1d();
  add_layer_norm();
  add_outer_product_mean();
  add_attention();
  add_pair_bias();
  add_pair_transition();
  add_triangle_multiply();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
