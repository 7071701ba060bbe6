// What the benchmarks share: an operator's case is its inputs, its call, and the least that it must
// do, which is set against the rates of this machine.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

namespace ribo::kernels::bench {

/// The least that a call must do, whatever the implementation; docs/kernels.md derives it.
struct Work {
  double bytes = 0;     // inputs read once, outputs written once
  double exps = 0;      // exponentials and their kin
  double ops = 0;       // other arithmetic of single floats; a multiply-add counts once
  double products = 0;  // multiply-adds of matrix products
};
Work operator+(const Work& a, const Work& b);

/// Registers `name`/threads=1 and /threads=2. `prepare` makes the inputs and returns what is timed.
/// Counters: `fastest`, the milliseconds of the fastest call, which a busy neighbour disturbs
/// least; its work per second; and `limit`, the time that the work needs at the rates measured here
/// (machine.h), in % of that call's; the label says which rate that is. Work of zeros (a peer's)
/// has no rates and no limit.
void add(const std::string& name, const Work& work,
         const std::function<std::function<void()>()>& prepare);

/// An operator on inputs of its own; those that want a gradient get one.
struct Problem {
  std::vector<at::Tensor> inputs;
  std::function<at::Tensor()> forward;
};

/// Registers `name`/f, the forward pass without autograd, and `name`/f+b, with the backward pass.
void add_passes(const std::string& name, const Work& forward, const Work& backward,
                const std::function<Problem()>& make);

/// A leaf of normal numbers times `scale` that wants a gradient.
at::Tensor leaf(at::IntArrayRef shape, double scale = 1);

// One for each file of this folder.
void add_machine();
void add_selective_scan();
void add_conv1d();
void add_outer_product_mean();
void add_attention();
void add_pair_transition();
void add_triangle_multiply();

}  // namespace ribo::kernels::bench
