// What blocks that add to `pair` [B, L, L, Z] share.
#pragma once

#include "ribo/shapes.h"

namespace ribo::blocks {

/// The shape of `pair`, which a block adds to: of the stream that is there, or of a new one, as
/// wide as model.streams says.
inline Shape added_to_pair(Shapes& shapes) {
  if (shapes.has("pair")) return shapes.need("pair", 4);
  return {dim::batch, dim::length, dim::length, shapes.declared("pair")};
}

/// The width of that, in the block's constructor.
inline int64_t pair_width(const Shapes& in) {
  return in.has("pair") ? in.width("pair") : in.declared("pair");
}

}  // namespace ribo::blocks
