#include "conv1d/conv1d.h"

#include <array>

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kWidth = 4;                       // a Mamba block's
constexpr std::array<int64_t, 3> kWidths{3, 5, 7};  // a separable convolution's, merged to one

// x, y; backward x, dy, dx. With SiLU the convolution is computed again for its derivative; then
// there are the derivatives by x and by the filter.
Least least(const Setting& s, int64_t width, bool silu) {
  const auto e = static_cast<double>(s.batch * s.length * s.channels), size = s.element_bytes(),
             taps = static_cast<double>(width);
  return {
      .forward = {.bytes = size * 2 * e, .exps = silu ? e : 0, .ops = e * (taps + (silu ? 3 : 0))},
      .backward = {.bytes = size * 3 * e,
                   .exps = silu ? e : 0,
                   .ops = e * (silu ? 3 * taps + 7 : 2 * taps)}};
}

at::Tensor positions(const Setting& s) { return s.leaf({s.batch, s.length, s.channels}); }

Problem causal(const Setting& s) {
  const at::Tensor x = positions(s), w = s.weight({s.channels, kWidth}), b = s.weight({s.channels});
  return {{x, w, b},
          [=] { return causal_conv1d(x, w, b, /*lengths=*/{}, /*silu=*/true, /*reverse=*/false); }};
}

// In the layout that suits it, [B, C, L].
Problem torch_conv1d(const Setting& s) {
  const int64_t channels = s.channels;
  const at::Tensor x = s.leaf({s.batch, channels, s.length}), w = s.leaf({channels, 1, kWidth}),
                   b = s.leaf({channels});
  return {{x, w, b}, [=] {
            const at::Tensor y = at::conv1d(x, w, b, 1, kWidth - 1, 1, channels);
            return at::silu(y.narrow(2, 0, x.size(2)));
          }};
}

Problem depthwise(const Setting& s) {
  const at::Tensor x = positions(s);
  std::vector<at::Tensor> inputs = {x}, filters;
  for (const int64_t width : kWidths) filters.push_back(s.weight({s.channels, width}));
  inputs.insert(inputs.end(), filters.begin(), filters.end());
  return {inputs, [=] { return depthwise_conv1d(x, filters, {}, {}, /*causal=*/false); }};
}

}  // namespace

void add_conv1d() {
  std::vector<Setting> settings = {on_cpu(1, 177, 512), on_cpu(1, 1024, 512)};
  for (const Setting& s : sequences_on_gpu({at::kBFloat16})) settings.push_back(s);
  for (const Setting& s : settings) {
    add_passes("causal_conv1d/ribo", s, least(s, kWidth, /*silu=*/true), [s] { return causal(s); });
    add_passes("causal_conv1d/torch", s, {}, [s] { return torch_conv1d(s); });
    add_passes("depthwise_conv1d/ribo", s, least(s, kWidths.back(), /*silu=*/false),
               [s] { return depthwise(s); });
  }
}

}  // namespace ribo::kernels::bench
