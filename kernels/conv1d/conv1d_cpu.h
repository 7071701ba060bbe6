// What is compiled for each instruction set.
#pragma once

#include "common/isa.h"
#include "conv1d/conv1d_args.h"

namespace ribo::kernels {

template <Isa isa>
void conv1d_forward(const Conv1dArgs<float>& args);
template <Isa isa>
void conv1d_forward(const Conv1dArgs<double>& args);

template <Isa isa>
void conv1d_backward(const Conv1dArgs<float>& args);
template <Isa isa>
void conv1d_backward(const Conv1dArgs<double>& args);

}  // namespace ribo::kernels
