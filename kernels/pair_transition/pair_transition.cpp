#include "pair_transition/pair_transition.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "common/autocast.h"
#include "common/check.h"
#include "common/lengths.h"
#include "pair_transition/pair_transition_aten.h"
#include "pair_transition/pair_transition_cpu.h"
#include "pair_transition/pair_transition_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kOp = "pair_transition";

// The arguments in the type that is computed in, contiguous; bfloat16 positions as they are, to be
// converted a tile at a time.
template <class T>
struct CpuProblem {
  static constexpr at::ScalarType kType = c10::CppTypeToScalarType<T>::value;
  at::ScalarType positions_type;
  at::Tensor x, norm_weight, norm_bias, w1, b1, w2, b2, lengths, scratch;
  bool ragged = false;
  TransitionArgs<T> args{};

  explicit CpuProblem(const TransitionTensors& in)
      : positions_type(in.x.scalar_type() == at::kBFloat16 ? at::kBFloat16 : kType),
        x(in.x.to(positions_type).contiguous()),
        norm_weight(in.norm_weight.to(kType).contiguous()),
        norm_bias(in.norm_bias.to(kType).contiguous()),
        w1(in.w1.to(kType).contiguous()),
        b1(in.b1.to(kType).contiguous()),
        w2(in.w2.to(kType).contiguous()),
        b2(in.b2.to(kType).contiguous()),
        lengths(in.lengths) {
    args.channels = static_cast<int>(w1.size(1));
    args.hidden = static_cast<int>(w1.size(0));
    args.eps = in.eps;
    args.bfloat16 = positions_type == at::kBFloat16;
    args.pairs = {nullptr, 1, 0, x.numel() / x.size(-1)};
    ragged = lengths.defined() && lengths.lt(x.size(1)).any().item<bool>();
    if (ragged) {
      args.pairs = {lengths.const_data_ptr<int64_t>(), x.size(0), x.size(1),
                    lengths.square().sum().item<int64_t>()};
    }
    args.x = x.const_data_ptr();
    args.norm_weight = norm_weight.const_data_ptr<T>();
    args.norm_bias = norm_bias.const_data_ptr<T>();
    args.w1 = w1.const_data_ptr<T>();
    args.b1 = b1.const_data_ptr<T>();
    args.w2 = w2.const_data_ptr<T>();
    args.b2 = b2.const_data_ptr<T>();
  }

  // Like x; zeros where there is padding that nobody will write.
  at::Tensor positions() const {
    return ragged ? at::zeros(x.sizes(), x.options()) : at::empty(x.sizes(), x.options());
  }
  void allocate(int64_t elements) {
    scratch = at::empty({elements}, w1.options());
    args.scratch = scratch.mutable_data_ptr<T>();
  }
};

template <class T>
at::Tensor forward_cpu(const TransitionTensors& in) {
  CpuProblem<T> p(in);
  at::Tensor y = p.positions();
  p.args.y = y.mutable_data_ptr();
  with_isa(in.bf16, [&](auto isa) {
    p.allocate(transition_scratch<isa>(p.args, false));
    transition_forward<isa>(p.args);
  });
  return y.to(in.x.scalar_type());
}

template <class T>
TransitionGrads backward_cpu(const TransitionTensors& in, const at::Tensor& y_grad) {
  CpuProblem<T> p(in);
  const at::Tensor dy = y_grad.to(p.positions_type).contiguous();
  TransitionGrads g = {
      p.positions(),        at::empty_like(p.norm_weight), at::empty_like(p.norm_bias),
      at::empty_like(p.w1), at::empty_like(p.b1),          at::empty_like(p.w2),
      at::empty_like(p.b2)};
  p.args.dy = dy.const_data_ptr();
  p.args.dx = g[0].mutable_data_ptr();
  p.args.d_norm_weight = g[1].mutable_data_ptr<T>();
  p.args.d_norm_bias = g[2].mutable_data_ptr<T>();
  p.args.dw1 = g[3].mutable_data_ptr<T>();
  p.args.db1 = g[4].mutable_data_ptr<T>();
  p.args.dw2 = g[5].mutable_data_ptr<T>();
  p.args.db2 = g[6].mutable_data_ptr<T>();
  with_isa(in.bf16, [&](auto isa) {
    p.allocate(transition_scratch<isa>(p.args, true));
    transition_backward<isa>(p.args);
  });
  return g;
}

at::Tensor forward_on_device(const TransitionTensors& in) {
#ifdef RIBO_CUDA_VERSION
  if (transition_fits_cuda(in)) return transition_forward_on_cuda(in);
#endif
  if (!in.x.is_cpu()) return transition_forward_aten(in);
  return in.x.scalar_type() == at::kDouble ? forward_cpu<double>(in) : forward_cpu<float>(in);
}

TransitionGrads backward_on_device(const TransitionTensors& in, const at::Tensor& y_grad) {
#ifdef RIBO_CUDA_VERSION
  if (transition_fits_cuda(in)) return transition_backward_on_cuda(in, y_grad);
#endif
  if (!in.x.is_cpu()) return transition_backward_aten(in, y_grad);
  return in.x.scalar_type() == at::kDouble ? backward_cpu<double>(in, y_grad)
                                           : backward_cpu<float>(in, y_grad);
}

struct PairTransition : torch::autograd::Function<PairTransition> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                            const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2,
                            const at::Tensor& b2, const std::optional<at::Tensor>& given,
                            double eps, at::ScalarType type, bool bf16) {
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const at::Tensor lengths = given.value_or(at::Tensor());
    ctx->save_for_backward({x, norm_weight, norm_bias, w1, b1, w2, b2, lengths});
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["type"] = type;
    ctx->saved_data["bf16"] = bf16;
    const TransitionTensors in{x, norm_weight, norm_bias, w1, b1, w2, b2, lengths, eps, type, bf16};
    return forward_on_device(in);
  }

  static variable_list backward(AutogradContext* ctx, variable_list y_grads) {
    refuse_second_derivative(kOp);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = ctx->get_saved_variables();
    const TransitionTensors in{saved[0],
                               saved[1],
                               saved[2],
                               saved[3],
                               saved[4],
                               saved[5],
                               saved[6],
                               saved[7],
                               ctx->saved_data["eps"].toDouble(),
                               ctx->saved_data["type"].toScalarType(),
                               ctx->saved_data["bf16"].toBool()};
    const TransitionGrads grads = backward_on_device(in, y_grads[0]);
    variable_list out;
    for (size_t i = 0; i < grads.size(); ++i) out.push_back(grads[i].to(saved[i].scalar_type()));
    out.resize(out.size() + 4);  // lengths, eps, type, bf16
    return out;
  }
};

at::Tensor pair_transition_op(const at::Tensor& x, const at::Tensor& norm_weight,
                              const at::Tensor& norm_bias, const at::Tensor& w1,
                              const at::Tensor& b1, const at::Tensor& w2, const at::Tensor& b2,
                              const std::optional<at::Tensor>& lengths, double eps) {
  expect(x.defined() && x.dim() >= 1 && x.size(-1) > 0, kOp, "x", x, "[..., C]");
  const int64_t channels = x.size(-1);
  expect_shape(kOp, "w1", w1, {-1, channels}, "[H, C]");
  const int64_t hidden = w1.size(0);
  expect(hidden > 0, kOp, "w1", w1, "a hidden layer");
  expect_shape(kOp, "norm_weight", norm_weight, {channels}, "[C]");
  expect_shape(kOp, "norm_bias", norm_bias, {channels}, "[C]");
  expect_shape(kOp, "b1", b1, {hidden}, "[H]");
  expect_shape(kOp, "w2", w2, {channels, hidden}, "[C, H]");
  expect_shape(kOp, "b2", b2, {channels}, "[C]");
  const auto check = [&](const char* name, const at::Tensor& tensor) {
    expect(tensor.is_floating_point(), kOp, name, tensor, "a floating type");
    expect_device(kOp, name, tensor, x);
  };
  check("x", x);
  check("norm_weight", norm_weight);
  check("norm_bias", norm_bias);
  check("w1", w1);
  check("b1", b1);
  check("w2", w2);
  check("b2", b2);
  std::optional<at::Tensor> ends = lengths;
  if (lengths) {
    expect(x.dim() == 4 && x.size(1) == x.size(2), kOp, "x", x, "[B, L, L, C] with lengths");
    if (x.is_cpu()) {
      ends = lengths_on_cpu(kOp, *lengths, x.size(0), x.size(1));
    } else {
      expect_lengths(kOp, *lengths, x.size(0));
    }
  }
  return PairTransition::apply(x, norm_weight, norm_bias, w1, b1, w2, b2, ends, eps,
                               product_type(x), rounds_products(x));
}

}  // namespace

at::Tensor pair_transition(const at::Tensor& x, const at::Tensor& norm_weight,
                           const at::Tensor& norm_bias, const at::Tensor& w1, const at::Tensor& b1,
                           const at::Tensor& w2, const at::Tensor& b2, const at::Tensor& lengths,
                           double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::pair_transition", "")
                             .typed<decltype(pair_transition_op)>();
  return op.call(x, norm_weight, norm_bias, w1, b1, w2, b2, optional(lengths), eps);
}

void register_pair_transition(torch::Library& m) {
  m.def(
      "pair_transition(Tensor x, Tensor norm_weight, Tensor norm_bias, Tensor w1, Tensor b1, "
      "Tensor w2, Tensor b2, Tensor? lengths=None, float eps=1e-05) -> Tensor",
      &pair_transition_op);
}

}  // namespace ribo::kernels
