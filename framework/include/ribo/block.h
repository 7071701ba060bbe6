// The base of every block. A block type is a class like this, registered by its plugin:
//
//   struct SepConv final : ribo::Block {
//     struct Options { int64_t kernel = 9; };
//     static ribo::Schema<Options> schema();
//     static void shapes(const Options&, ribo::Shapes&);       // before any weight exists
//     SepConv(const Options&, const ribo::Shapes& in);         // `in` as shapes() found it
//     void forward(ribo::Streams&) override;
//   };
#pragma once

#include <torch/nn/module.h>

#include "ribo/schema.h"
#include "ribo/shapes.h"
#include "ribo/streams.h"

namespace ribo {

class RIBO_API Block : public torch::nn::Module {
 public:
  ~Block() override;
  /// Reads its streams and writes its own. Everything written with a length dimension is zero
  /// outside the mask. Under gradient checkpointing it is called twice for one step, so it keeps
  /// no state but its parameters and buffers.
  virtual void forward(Streams& streams) = 0;
};

}  // namespace ribo
