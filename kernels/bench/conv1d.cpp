#include "conv1d/conv1d.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kBatch = 1, kChannels = 512, kWidth = 4;

Work forward_work(double length) {
  const double e = kBatch * length * kChannels;
  return {.bytes = 4 * 2 * e, .exps = e, .ops = e * (kWidth + 3)};
}

// x, dy, dx. The convolution is computed again, then the derivatives by x and by the filter.
Work backward_work(double length) {
  const double e = kBatch * length * kChannels;
  return {.bytes = 4 * 3 * e, .exps = e, .ops = e * (3 * kWidth + 7)};
}

Problem ours(int64_t length) {
  const at::Tensor x = leaf({kBatch, length, kChannels}), w = leaf({kChannels, kWidth}),
                   b = leaf({kChannels});
  return {{x, w, b},
          [=] { return causal_conv1d(x, w, b, /*lengths=*/{}, /*silu=*/true, /*reverse=*/false); }};
}

// In the layout that suits it, [B, C, L].
Problem torch_conv1d(int64_t length) {
  const at::Tensor x = leaf({kBatch, kChannels, length}), w = leaf({kChannels, 1, kWidth}),
                   b = leaf({kChannels});
  return {{x, w, b}, [=] {
            const at::Tensor y = at::conv1d(x, w, b, 1, kWidth - 1, 1, kChannels);
            return at::silu(y.narrow(2, 0, x.size(2)));
          }};
}

}  // namespace

void add_conv1d() {
  for (const int64_t length : {177, 1024}) {
    const std::string shape = "/L=" + std::to_string(length);
    add_passes("causal_conv1d/ribo" + shape, forward_work(static_cast<double>(length)),
               backward_work(static_cast<double>(length)), [=] { return ours(length); });
    add_passes("causal_conv1d/torch" + shape, {}, {}, [=] { return torch_conv1d(length); });
  }
}

}  // namespace ribo::kernels::bench
