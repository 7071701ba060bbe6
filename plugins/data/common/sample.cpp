#include "common/sample.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace ribo {

ProfileSample profile_sample(std::span<const uint8_t> tokens, int64_t columns, int64_t qualities) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const auto length = static_cast<int64_t>(tokens.size());
  at::Tensor letters = at::empty({length}, at::kLong);
  at::Tensor reactivity = at::empty({length, columns}, at::kFloat);
  at::Tensor signal_to_noise = at::empty({qualities}, at::kFloat);
  ProfileSample sample = {{},
                          letters.mutable_data_ptr<int64_t>(),
                          reactivity.mutable_data_ptr<float>(),
                          signal_to_noise.mutable_data_ptr<float>()};
  std::copy(tokens.begin(), tokens.end(), sample.tokens);
  std::fill_n(sample.reactivity, length * columns, kNaN);
  std::fill_n(sample.signal_to_noise, qualities, kNaN);
  sample.streams.set("tokens", std::move(letters));
  sample.streams.set("target.reactivity", std::move(reactivity));
  sample.streams.set("signal_to_noise", std::move(signal_to_noise));
  return sample;
}

}  // namespace ribo
