// The sample of a data source that measures profiles: tokens, target.reactivity, signal_to_noise.
#pragma once

#include <cstdint>
#include <span>

#include "ribo/data.h"

namespace ribo {

/// A sample and where its numbers lie. Both float streams are NaN (not measured) until written.
struct ProfileSample {
  Streams streams;
  int64_t* tokens;         ///< [L]
  float* reactivity;       ///< [L, columns]
  float* signal_to_noise;  ///< [qualities]
};

ProfileSample profile_sample(std::span<const uint8_t> tokens, int64_t columns, int64_t qualities);

}  // namespace ribo
