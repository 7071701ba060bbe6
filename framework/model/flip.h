// Both directions of a sequence.
#pragma once

#include "model/model.h"

namespace ribo {

/// `streams` (which hold `mask`) with every length dimension of those that `shapes` knows reversed
/// within each sequence's own length; padding stays behind. `reversed` [B] bool becomes its
/// opposite, or all true where it is not there: blocks for which the 5' end matters (folding) read
/// it.
Streams reverse_streams(const Streams& streams, const Shapes& shapes);

/// As Model::forward(), but `pred.*` becomes the mean of the predictions of both directions.
void forward_both_ways(Model& model, Streams& streams);

}  // namespace ribo
