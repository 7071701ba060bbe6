#include "bench/machine.h"

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "bench/machine_cpu.h"
#include "common/parallel.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kExps = 1 << 21, kOps = 1 << 25;  // half a millisecond of one thread
constexpr int64_t kProduct = 2048;
constexpr double kMultiplyAdds = double{kProduct} * kProduct * kProduct;
constexpr double kLargestCopy = 256 << 20;  // beyond every cache

// A part of `count` for each thread.
template <class Loop>
void share_out(int64_t count, int threads, Loop loop) {
  parallel(threads, [&](int64_t, int) { benchmark::DoNotOptimize(loop(count / threads)); });
}

void run_exps(int threads) {
  with_isa([&](auto isa) { share_out(kExps, threads, exponentials<isa>); });
}

void run_ops(int threads) {
  with_isa([&](auto isa) { share_out(kOps, threads, multiply_adds<isa>); });
}

// Two ends of a copy, which each thread makes in a part of its own.
struct Copy {
  explicit Copy(double bytes)
      : from(at::ones({static_cast<int64_t>(bytes / 2 / sizeof(float))})),
        to(at::zeros_like(from)) {}

  template <class One>
  void run(int threads, One one) const {
    const int64_t part = from.numel() / threads;
    parallel(threads, [&](int64_t i, int) {
      one(to.mutable_data_ptr<float>() + i * part, from.const_data_ptr<float>() + i * part, part);
    });
  }
  void plain(int threads) const {
    with_isa([&](auto isa) { run(threads, copy<isa>); });
  }
  void library(int threads) const {
    run(threads, [](float* a, const float* b, int64_t n) { std::memcpy(a, b, n * sizeof(float)); });
  }

  at::Tensor from, to;
};

struct Product {
  void run() const { at::mm_out(c, a, b); }
  at::Tensor a = at::randn({kProduct, kProduct}), b = at::randn({kProduct, kProduct});
  mutable at::Tensor c = at::empty({kProduct, kProduct});
};

template <class Key, class Measure>
double remember(std::map<Key, double>& known, const Key& key, Measure measure) {
  double& value = known[key];
  if (value == 0) value = measure();
  return value;
}

// The shortest time of a call, over at least 5 calls and 0.1 s.
template <class Call>
double shortest(Call call) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30, total = 0;
  for (int i = 0; i < 6 || total < 0.1; ++i) {
    const auto start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    total += seconds;
    if (i > 0) best = std::min(best, seconds);
  }
  return best;
}

}  // namespace

double exp_rate(int threads) {
  static std::map<int, double> known;
  return remember(known, threads, [&] { return kExps / shortest([&] { run_exps(threads); }); });
}

double op_rate(int threads) {
  static std::map<int, double> known;
  return remember(known, threads, [&] { return kOps / shortest([&] { run_ops(threads); }); });
}

double product_rate(int threads) {
  static std::map<int, double> known;
  return remember(known, threads, [] {
    const Product product;
    return kMultiplyAdds / shortest([&] { product.run(); });
  });
}

double copy_rate(int threads, double bytes) {
  static std::map<std::pair<int, double>, double> known;
  const double size = std::min(kLargestCopy, std::exp2(std::round(std::log2(bytes))));
  return remember(known, std::pair(threads, size), [&] {
    const Copy copy(size);
    // Small ones several times, so that starting the threads does not count.
    const int times = static_cast<int>(std::max(1.0, (8 << 20) / size));
    const auto seconds = [&](auto once) {
      return shortest([&] {
        for (int i = 0; i < times; ++i) once();
      });
    };
    return size * times /
           std::min(seconds([&] { copy.plain(threads); }), seconds([&] { copy.library(threads); }));
  });
}

double least_seconds(const Work& work, int threads, const char*& bound) {
  at::set_num_threads(threads);
  const auto time = [threads](double amount, auto rate) {
    return amount > 0 ? amount / rate(threads) : 0;
  };
  const double exps = time(work.exps, exp_rate), ops = time(work.ops, op_rate),
               products = time(work.products, product_rate);
  const double copying = work.bytes > 0 ? work.bytes / copy_rate(threads, work.bytes) : 0;
  const double arithmetic = exps + ops + products;
  bound = copying > arithmetic              ? "copy"
          : products >= std::max(exps, ops) ? "matrix product"
          : exps >= ops                     ? "exp"
                                            : "arithmetic";
  return std::max(arithmetic, copying);
}

void add_machine() {
  add("machine/exp", {.exps = kExps}, [] { return [] { run_exps(at::get_num_threads()); }; });
  add("machine/fma", {.ops = kOps}, [] { return [] { run_ops(at::get_num_threads()); }; });
  add("machine/mm=2048", {.products = kMultiplyAdds},
      [] { return [product = Product()] { product.run(); }; });
  for (const double bytes : {1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 28}) {
    add("machine/copy=" + std::to_string(static_cast<int>(bytes) >> 10) + "KiB", {.bytes = bytes},
        [bytes] { return [copy = Copy(bytes)] { copy.plain(at::get_num_threads()); }; });
  }
}

}  // namespace ribo::kernels::bench
