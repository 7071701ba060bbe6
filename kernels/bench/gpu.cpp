#include "bench/gpu.h"

#include <torch/cuda.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "bench/machine_cuda.h"
#include "bench/report.h"

namespace ribo::kernels::bench {
namespace {

// Beyond every L2 cache; H100's has 50 MB.
constexpr double kInputs = 256 << 20;
constexpr int64_t kCopied = int64_t{1} << 30;  // bytes, which are read and written
constexpr int64_t kProduct = 8192;
constexpr double kMultiplyAdds = double{kProduct} * kProduct * kProduct;

// Another problem at each call.
Call in_turns(const std::function<Problem()>& make, Call (*pass)(const Problem&)) {
  std::vector<Call> calls;
  double bytes = 0;
  while (bytes < kInputs) {
    const Problem problem = make();
    for (const at::Tensor& x : problem.inputs) bytes += static_cast<double>(x.nbytes());
    calls.push_back(pass(problem));
  }
  return [calls, next = size_t{0}]() mutable { calls[next++ % calls.size()](); };
}

// Calls that are timed together.
class Round {
 public:
  explicit Round(Call one) : call_(std::move(one)) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point start) {
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    run(3);  // handles of libraries
    const auto start = Clock::now();
    call_();
    const double host = since(start);
    torch::cuda::synchronize();
    // The GPU's queue has room for some 1000 launches.
    calls_ = static_cast<int>(std::clamp(std::min(2e-3 / host, 1e-2 / since(start)), 1.0, 100.0));
    head_start_ = std::min(1.5 * calls_ * host, kLongestHeadStart);
    run(calls_);  // memory pools, which stop everything when they grow
  }

  int calls() const { return calls_; }
  // Of the GPU, for one call.
  double seconds() {
    return gpu_seconds([this] { enqueue(calls_); }, head_start_) / calls_;
  }
  // Whether the GPU had to wait for launches.
  bool bound_by_host() const { return head_start_ > kLongestHeadStart; }

 private:
  void enqueue(int calls) {
    for (int i = 0; i < calls; ++i) call_();
  }
  void run(int calls) {
    enqueue(calls);
    torch::cuda::synchronize();
  }

  Call call_;
  int calls_ = 1;
  double head_start_ = 0;
};

Call copy_call() {
  const at::Tensor from = at::ones({kCopied}, at::TensorOptions(at::kCUDA).dtype(at::kByte));
  return [from, to = at::empty_like(from)] { to.copy_(from); };
}

Call product_call() {
  const auto options = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor a = at::randn({kProduct, kProduct}, options), b = at::randn_like(a);
  return [a, b, c = at::empty_like(a)]() mutable { at::mm_out(c, a, b); };
}

// What this GPU does of each a second, the best of several tries.
const Work& rates() {
  static const Work known = [] {
    const auto rate = [](double amount, const Call& call) {
      Round round(call);
      double best = 1e30;
      for (int i = 0; i < 5; ++i) best = std::min(best, round.seconds());
      return amount / best;
    };
    const auto threads = static_cast<double>(gpu_threads());
    return Work{.bytes = rate(2.0 * kCopied, copy_call()),
                .exps = rate(threads * kGpuExps, gpu_exponentials),
                .ops = rate(threads * kGpuOps, gpu_multiply_adds),
                .products = rate(kMultiplyAdds, product_call())};
  }();
  return known;
}

void report(benchmark::State& state, const Work& work, const Round& round, double fastest) {
  report_rates(state, work, fastest);
  const Work& rate = rates();
  const struct {
    const char *counter, *bound;
    double seconds;
  } parts[] = {{"limit_copy", "copy", work.bytes / rate.bytes},
               {"limit_exp", "exp", work.exps / rate.exps},
               {"limit_ops", "arithmetic", work.ops / rate.ops},
               {"limit_products", "matrix product", work.products / rate.products}};
  const auto* longest = &parts[0];
  for (const auto& part : parts) {
    if (part.seconds > 0) state.counters[part.counter] = 100 * part.seconds / fastest;
    if (part.seconds > longest->seconds) longest = &part;
  }
  report_limit(state, longest->seconds, longest->bound, fastest);
  if (round.bound_by_host()) state.SetLabel("host");
}

void add_rounds(const std::string& name, const Work& work, const std::function<Call()>& prepare) {
  const auto run = [=](benchmark::State& state) {
    Round round(prepare());
    double fastest = 1e30;
    while (state.KeepRunningBatch(round.calls())) {
      const double seconds = round.seconds();
      state.SetIterationTime(round.calls() * seconds);
      fastest = std::min(fastest, seconds);
    }
    report(state, work, round, fastest);
  };
  benchmark::RegisterBenchmark((name + "/cuda").c_str(),
                               [run](benchmark::State& state) {
                                 try {
                                   run(state);
                                 } catch (const std::exception& e) {
                                   state.SkipWithError(e.what());
                                 }
                               })
      ->MinTime(0.05)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void add_on_gpu(const std::string& name, const Work& work, const std::function<Problem()>& make,
                Call (*pass)(const Problem&)) {
  add_rounds(name, work, [=] { return in_turns(make, pass); });
}

void add_gpu() {
  const auto threads = static_cast<double>(gpu_threads());
  add_rounds("machine/copy=1GiB", {.bytes = 2.0 * kCopied}, copy_call);
  add_rounds("machine/exp", {.exps = threads * kGpuExps}, [] { return gpu_exponentials; });
  add_rounds("machine/fma", {.ops = threads * kGpuOps}, [] { return gpu_multiply_adds; });
  add_rounds("machine/mm=8192", {.products = kMultiplyAdds}, product_call);
}

}  // namespace ribo::kernels::bench
