// What the benchmarks share: an operator's case is its inputs, its call, and the least that it must
// do, which is set against the rates of this machine, or of its GPU.
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
Work operator*(double times, const Work& work);

using Call = std::function<void()>;

/// Registers `name`/threads=1 and /threads=2. `prepare` makes the inputs and returns what is timed.
/// Counters: `fastest`, the milliseconds of the fastest call, which a busy neighbour disturbs
/// least; its work per second; and `limit`, the time that the work needs at the rates measured here
/// (machine.h), in % of that call's; the label says which rate that is. Work of zeros (a peer's)
/// has no rates and no limit.
void add(const std::string& name, const Work& work, const std::function<Call()>& prepare);

/// What a case's tensors are like, and where.
struct Setting {
  std::string shape;  // as cases are called
  int64_t batch = 1, length = 0, channels = 0;
  at::TensorOptions stored = at::kFloat;  // the device, and the type of everything large

  /// A leaf of normal numbers times `scale` that wants a gradient.
  at::Tensor leaf(at::IntArrayRef sizes, double scale = 1) const;
  /// The same in float32, as the weights are whose kernels take any type.
  at::Tensor weight(at::IntArrayRef sizes) const;
  bool on_gpu() const { return stored.device().is_cuda(); }
  double element_bytes() const { return static_cast<double>(stored.dtype().itemsize()); }
};

/// Float32 on the CPU.
Setting on_cpu(int64_t batch, int64_t length, int64_t channels);
/// A GPU's many short sequences and its few long ones; none where there is no GPU.
std::vector<Setting> sequences_on_gpu(const std::vector<at::ScalarType>& types);
/// 177 positions and their pairs: of one sequence on the CPU, and of eight, in bfloat16, on a GPU
/// where there is one.
std::vector<Setting> pair_settings();

/// An operator on inputs of its own; those that want a gradient get one.
struct Problem {
  std::vector<at::Tensor> inputs;
  std::function<at::Tensor()> forward;
};

/// The least work of an operator.
struct Least {
  Work forward, backward;
  double kept = 0;  // bytes that forward writes besides, for backward, where a gradient is wanted
};

/// Registers `name`/SHAPE/f, the forward pass without autograd, and /f+b, with the backward pass;
/// on a GPU (gpu.h) also /b, the backward pass alone.
void add_passes(const std::string& name, const Setting& setting, const Least& least,
                const std::function<Problem()>& make);

// One for each file of this folder.
void add_machine();
void add_selective_scan();
void add_conv1d();
void add_layer_norm();
void add_outer_product_mean();
void add_attention();
void add_pair_bias();
void add_pair_transition();
void add_triangle_multiply();

}  // namespace ribo::kernels::bench
