// Gradient checkpointing: memory for time (Chen et al. 2016, "Training Deep Nets with Sublinear
// Memory Cost").
#pragma once

#include <functional>

#include "ribo/streams.h"

namespace ribo {

/// Runs `segment` on `streams` without keeping its activations; the backward pass runs it again
/// with the same random numbers and the same autocast state, so that results and gradients are
/// bit-identical to a plain call. `segment` must stay valid until the backward pass is over.
void forward_checkpointed(Streams& streams, std::function<void(Streams&)> segment);

}  // namespace ribo
