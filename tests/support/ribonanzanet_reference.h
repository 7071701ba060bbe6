// RibonanzaNet (He et al. 2024, github.com/Shujun-He/RibonanzaNet) in plain ATen calls, nothing
// reordered: what the pipeline's model is compared with, in numbers and in time.
#pragma once

#include <string>

#include "train/safetensors.h"

namespace ribo::testing {

/// As in the original's configuration files.
struct RibonanzaNet {
  int64_t ninp = 256;               // channels of `single`
  int64_t pairwise_dimension = 64;  // of `pair`
  int64_t nhead = 8;
  int64_t nlayers = 9;
  int64_t k = 5;  // width of the convolutions; the last layer has 1
  bool use_triangular_attention = false;
};

/// The output [B, L, nclass] for `tokens` [B, L] without padding. `weights` are called as in the
/// original's state_dict, and keep their gradients. Dropout is left out.
at::Tensor ribonanzanet_reference(const RibonanzaNet& net, const Tensors& weights,
                                  const at::Tensor& tokens);

/// The `model` section of a pipeline that is this network, without dropout; `checkpoint`: of the
/// layers.
std::string ribonanzanet_model(const RibonanzaNet& net, bool checkpoint = false);

/// A Model of that section calls its weights otherwise, and keeps q, k and v as one matrix. Both
/// take all tensors or some; an unknown name throws Error.
Tensors to_reference_names(const RibonanzaNet& net, const Tensors& ours);
Tensors from_reference_names(const RibonanzaNet& net, const Tensors& theirs);

}  // namespace ribo::testing
