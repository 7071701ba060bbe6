// Training losses.
#pragma once

#include "ribo/schema.h"
#include "ribo/shapes.h"
#include "ribo/streams.h"

namespace ribo {

/// A loss type adds `struct Options`, `static Schema<Options> schema()` and a constructor
/// (const Options&).
class RIBO_API Loss {
 public:
  virtual ~Loss();
  /// Asks for the streams that it reads, as a block does, and keeps what it must know of them (the
  /// labels of their columns). Called once, before forward().
  virtual void shapes(Shapes& shapes) = 0;
  /// A scalar float tensor. NaN targets don't count; a batch without any gives exactly zero, with
  /// zero gradients.
  virtual at::Tensor forward(const Streams& streams) const = 0;
};

}  // namespace ribo
