#include "selective_scan/selective_scan.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "common/check.h"
#include "common/lengths.h"
#include "common/parallel.h"
#include "selective_scan/selective_scan_cpu.h"
#include "selective_scan/selective_scan_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kOp = "selective_scan";

ScanSizes sizes_of(const SelectiveScanArgs& a) {
  return {a.u.size(0), a.u.size(1), a.u.size(2), a.A.size(1), a.B.dim() == 4 ? a.B.size(2) : 1};
}

at::ScalarType type_of_state(const SelectiveScanArgs& a) {
  return a.u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check(const SelectiveScanArgs& a) {
  expect_shape(kOp, "u", a.u, {-1, -1, -1}, "[B, L, D]");
  const int64_t batch = a.u.size(0), length = a.u.size(1), channels = a.u.size(2);
  expect_shape(kOp, "delta", a.delta, {batch, length, channels}, "[B, L, D]");
  expect_shape(kOp, "A", a.A, {channels, -1}, "[D, N]");
  const int64_t states = a.A.size(1);
  expect(states >= 1 && states <= 256, kOp, "A", a.A, "1 to 256 states");
  if (a.B.defined() && a.B.dim() == 4) {
    const int64_t groups = a.B.size(2);
    expect_shape(kOp, "B", a.B, {batch, length, groups, states}, "[B, L, G, N]");
    expect_shape(kOp, "C", a.C, {batch, length, groups, states}, "[B, L, G, N]");
    expect(groups > 0 && channels % groups == 0, kOp, "B", a.B,
           cat("a number of groups that divides the ", channels, " channels"));
  } else {
    expect_shape(kOp, "B", a.B, {batch, length, states}, "[B, L, N]");
    expect_shape(kOp, "C", a.C, {batch, length, states}, "[B, L, N]");
  }
  if (a.D.defined()) expect_shape(kOp, "D", a.D, {channels}, "[D]");
  if (a.z.defined()) expect_shape(kOp, "z", a.z, {batch, length, channels}, "[B, L, D]");
  if (a.delta_bias.defined()) expect_shape(kOp, "delta_bias", a.delta_bias, {channels}, "[D]");
  if (a.initial_state.defined()) {
    expect_shape(kOp, "initial_state", a.initial_state, {batch, channels, states}, "[B, D, N]");
  }
  const std::pair<std::string_view, const at::Tensor&> all[] = {{"u", a.u},
                                                                {"delta", a.delta},
                                                                {"A", a.A},
                                                                {"B", a.B},
                                                                {"C", a.C},
                                                                {"D", a.D},
                                                                {"z", a.z},
                                                                {"delta_bias", a.delta_bias},
                                                                {"initial_state", a.initial_state}};
  for (const auto& [name, x] : all) {
    if (!x.defined()) continue;
    expect(at::isFloatingType(x.scalar_type()), kOp, name, x, "a floating type");
    expect_device(kOp, name, x, a.u);
  }
  expect_lengths(kOp, a.lengths, batch);
}

template <class T>
const T* data(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

/// The arguments as the CPU code takes them, alive as long as this is.
template <class T>
struct CpuArgs {
  SelectiveScanArgs x;
  at::Tensor scratch;
  ScanArgs<T> args;

  explicit CpuArgs(const SelectiveScanArgs& a) : x(a) {
    for (at::Tensor* t :
         {&x.u, &x.delta, &x.A, &x.B, &x.C, &x.D, &x.z, &x.delta_bias, &x.initial_state}) {
      if (t->defined()) *t = t->to(type_of_state(a)).contiguous();
    }
    const ScanSizes sizes = sizes_of(a);
    x.lengths = lengths_on_cpu(kOp, a.lengths, sizes.batch, sizes.length);
    scratch = at::empty({workers(), sizes.scratch()}, x.u.options());
    args = {sizes,
            data<T>(x.u),
            data<T>(x.delta),
            data<T>(x.A),
            data<T>(x.B),
            data<T>(x.C),
            data<T>(x.D),
            data<T>(x.z),
            data<T>(x.delta_bias),
            data<T>(x.initial_state),
            data<int64_t>(x.lengths),
            a.delta_softplus,
            a.reverse,
            scratch.mutable_data_ptr<T>()};
  }
};

template <class T>
ScanOnDevice forward_cpu(const SelectiveScanArgs& a, bool keep) {
  const CpuArgs<T> in(a);
  const ScanSizes& sizes = in.args.sizes;
  const at::TensorOptions options = in.x.u.options();
  const at::Tensor y = at::empty_like(in.x.u);
  const at::Tensor last_state = at::empty({sizes.batch, sizes.channels, sizes.states}, options);
  const at::Tensor kept = keep ? at::empty({sizes.kept()}, options) : at::Tensor();
  ScanForward<T> args{in.args};
  args.y = y.mutable_data_ptr<T>();
  args.last_state = last_state.mutable_data_ptr<T>();
  args.kept = keep ? kept.mutable_data_ptr<T>() : nullptr;
  with_isa([&](auto isa) { scan_forward<isa>(args); });
  return {y.to(a.u.scalar_type()), last_state, {kept, {}}};
}

template <class T>
at::Tensor sum_of_parts(const at::Tensor& parts) {
  if (parts.size(0) == 1) return parts[0];
  const at::Tensor out = at::empty(parts.sizes().slice(1), parts.options());
  with_isa([&](auto isa) {
    scan_add_parts<isa>(parts.const_data_ptr<T>(), parts.size(0), out.numel(),
                        out.mutable_data_ptr<T>());
  });
  return out;
}

/// The gradients of the arguments of the same names.
template <class T>
SelectiveScanArgs backward_cpu(const SelectiveScanArgs& a, const at::Tensor& kept,
                               const at::Tensor& dy, const at::Tensor& dlast_state) {
  const CpuArgs<T> in(a);
  const ScanSizes& s = in.args.sizes;
  const at::TensorOptions options = in.x.u.options();
  const auto wide = [&](const at::Tensor& x) {
    return x.defined() ? x.to(options.dtype()).contiguous() : x;
  };
  const at::Tensor dy_ = wide(dy), dlast_state_ = wide(dlast_state);

  SelectiveScanArgs d;
  ScanBackward<T> args{in.args};
  args.kept = data<T>(kept);
  args.dy = data<T>(dy_);
  args.dlast_state = data<T>(dlast_state_);
  const auto output = [&](at::Tensor& x, T*& pointer, at::IntArrayRef shape) {
    x = at::empty(shape, options);
    pointer = x.mutable_data_ptr<T>();
  };
  output(d.u, args.du, a.u.sizes());
  output(d.delta, args.ddelta, a.u.sizes());
  output(d.A, args.dA, {s.batch, s.channels, s.states});
  output(d.B, args.dB, {s.slices(), s.batch, s.length, s.groups, s.states});
  output(d.C, args.dC, {s.slices(), s.batch, s.length, s.groups, s.states});
  if (a.D.defined()) output(d.D, args.dD, {s.batch, s.channels});
  if (a.z.defined()) output(d.z, args.dz, a.u.sizes());
  if (a.delta_bias.defined()) output(d.delta_bias, args.ddelta_bias, {s.batch, s.channels});
  if (a.initial_state.defined()) {
    output(d.initial_state, args.dinitial_state, {s.batch, s.channels, s.states});
  }
  with_isa([&](auto isa) { scan_backward<isa>(args); });
  for (at::Tensor* parts : {&d.A, &d.B, &d.C, &d.D, &d.delta_bias}) {
    if (parts->defined()) *parts = sum_of_parts<T>(*parts);
  }
  d.B = d.B.view(a.B.sizes());
  d.C = d.C.view(a.C.sizes());
  return d;
}

// Here each device's code is chosen.
void check_device(const SelectiveScanArgs& a) {
  expect(a.u.is_cpu(), kOp, "u", a.u, "a tensor on the CPU: there is no code for this device");
}

ScanOnDevice forward_on_device(const SelectiveScanArgs& a, bool keep) {
#ifdef RIBO_CUDA_VERSION
  if (a.u.is_cuda()) return scan_forward_on_cuda(a, keep);
#endif
  check_device(a);
  return type_of_state(a) == at::kDouble ? forward_cpu<double>(a, keep)
                                         : forward_cpu<float>(a, keep);
}

SelectiveScanArgs backward_on_device(const SelectiveScanArgs& a, const ScanKept& kept,
                                     const at::Tensor& dy, const at::Tensor& dlast_state) {
#ifdef RIBO_CUDA_VERSION
  if (a.u.is_cuda()) return scan_backward_on_cuda(a, kept, dy, dlast_state);
#endif
  return type_of_state(a) == at::kDouble ? backward_cpu<double>(a, kept.states, dy, dlast_state)
                                         : backward_cpu<float>(a, kept.states, dy, dlast_state);
}

using Optional = std::optional<at::Tensor>;

SelectiveScanArgs gather(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
                         const at::Tensor& B, const at::Tensor& C, const Optional& D,
                         const Optional& z, const Optional& delta_bias,
                         const Optional& initial_state, const Optional& lengths,
                         bool delta_softplus, bool reverse) {
  const auto or_none = [](const Optional& x) { return x.value_or(at::Tensor()); };
  return {u,
          delta,
          A,
          B,
          C,
          or_none(D),
          or_none(z),
          or_none(delta_bias),
          or_none(initial_state),
          or_none(lengths),
          delta_softplus,
          reverse};
}

struct SelectiveScan : torch::autograd::Function<SelectiveScan> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& u, const at::Tensor& delta,
                               const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                               const Optional& D, const Optional& z, const Optional& delta_bias,
                               const Optional& initial_state, const Optional& lengths,
                               bool delta_softplus, bool reverse, bool keep) {
    const SelectiveScanArgs a = gather(u, delta, A, B, C, D, z, delta_bias, initial_state, lengths,
                                       delta_softplus, reverse);
    const ScanOnDevice out = forward_on_device(a, keep);
    ctx->save_for_backward({a.u, a.delta, a.A, a.B, a.C, a.D, a.z, a.delta_bias, a.initial_state,
                            a.lengths, out.kept.states, out.kept.ungated});
    ctx->saved_data["delta_softplus"] = delta_softplus;
    ctx->saved_data["reverse"] = reverse;
    ctx->set_materialize_grads(false);
    return {out.y, out.last_state};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_second_derivative(kOp);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = ctx->get_saved_variables();
    const SelectiveScanArgs a{saved[0],
                              saved[1],
                              saved[2],
                              saved[3],
                              saved[4],
                              saved[5],
                              saved[6],
                              saved[7],
                              saved[8],
                              saved[9],
                              ctx->saved_data["delta_softplus"].toBool(),
                              ctx->saved_data["reverse"].toBool()};
    const SelectiveScanArgs d = backward_on_device(a, {saved[10], saved[11]}, grads[0], grads[1]);
    variable_list out = {d.u, d.delta, d.A, d.B, d.C, d.D, d.z, d.delta_bias, d.initial_state};
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i].defined()) out[i] = out[i].to(saved[i].scalar_type());
    }
    out.resize(13);  // lengths and the flags have none
    return out;
  }
};

std::tuple<at::Tensor, at::Tensor> implementation(
    const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
    const at::Tensor& C, const Optional& D, const Optional& z, const Optional& delta_bias,
    const Optional& initial_state, const Optional& lengths, bool delta_softplus, bool reverse) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const SelectiveScanArgs a =
      gather(u, delta, A, B, C, D, z, delta_bias, initial_state, lengths, delta_softplus, reverse);
  check(a);
  bool keep = false;
  for (const at::Tensor* x :
       {&a.u, &a.delta, &a.A, &a.B, &a.C, &a.D, &a.z, &a.delta_bias, &a.initial_state}) {
    keep = keep || (x->defined() && x->requires_grad());
  }
  keep = keep && at::GradMode::is_enabled();
  const variable_list out = SelectiveScan::apply(u, delta, A, B, C, D, z, delta_bias, initial_state,
                                                 lengths, delta_softplus, reverse, keep);
  return {out[0], out[1]};
}

}  // namespace

SelectiveScanResult selective_scan(const SelectiveScanArgs& a) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::selective_scan", "")
                             .typed<decltype(implementation)>();
  auto [y, last_state] =
      op.call(a.u, a.delta, a.A, a.B, a.C, optional(a.D), optional(a.z), optional(a.delta_bias),
              optional(a.initial_state), optional(a.lengths), a.delta_softplus, a.reverse);
  return {y, last_state};
}

void register_selective_scan(torch::Library& m) {
  m.def(
      "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
      "Tensor? z=None, Tensor? delta_bias=None, Tensor? initial_state=None, Tensor? lengths=None, "
      "bool delta_softplus=False, bool reverse=False) -> (Tensor, Tensor)",
      &implementation);
}

}  // namespace ribo::kernels
