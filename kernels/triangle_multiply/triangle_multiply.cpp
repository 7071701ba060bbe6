#include "triangle_multiply/triangle_multiply.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "common/autocast.h"
#include "common/check.h"
#include "common/lengths.h"
#include "common/parallel.h"
#include "triangle_multiply/triangle_multiply_aten.h"
#include "triangle_multiply/triangle_multiply_cpu.h"
#include "triangle_multiply/triangle_multiply_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto kOp = "triangle_multiply";
constexpr std::array kNames = {
    "norm_weight",       "norm_bias",       "left_weight",     "left_bias",
    "left_gate_weight",  "left_gate_bias",  "right_weight",    "right_bias",
    "right_gate_weight", "right_gate_bias", "out_gate_weight", "out_gate_bias",
    "out_norm_weight",   "out_norm_bias",   "out_weight",      "out_bias"};

void check(const at::Tensor& x, at::TensorList weights, const at::Tensor& lengths) {
  expect(x.defined() && x.dim() == 4 && x.size(1) == x.size(2) && x.size(3) > 0, kOp, "x", x,
         "[B, L, L, C]");
  expect(at::isFloatingType(x.scalar_type()), kOp, "x", x, "a floating type");
  if (weights.size() != kNames.size()) {
    throw Error(cat(kOp, ": weights are ", weights.size(), " tensors, expected ", kNames.size()));
  }
  const int64_t channels = x.size(3);
  expect_shape(kOp, kNames[2], weights[2], {-1, channels}, "[H, C]");
  const int64_t hidden = weights[2].size(0);
  expect(hidden > 0, kOp, kNames[2], weights[2], "at least one row");
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (i < 2 || i == 15) {
      expect_shape(kOp, kNames[i], weights[i], {channels}, "[C]");
    } else if (i == 14) {
      expect_shape(kOp, kNames[i], weights[i], {channels, hidden}, "[C, H]");
    } else if (i % 2 == 1 || i == 12) {
      expect_shape(kOp, kNames[i], weights[i], {hidden}, "[H]");
    } else {
      expect_shape(kOp, kNames[i], weights[i], {hidden, channels}, "[H, C]");
    }
    expect(at::isFloatingType(weights[i].scalar_type()), kOp, kNames[i], weights[i],
           "a floating type");
    expect_device(kOp, kNames[i], weights[i], x);
  }
  expect_lengths(kOp, lengths, x.size(0));
}

// The values of a tensor that channel_major() made.
template <class S>
S* stored(const at::Tensor& x) {
  if constexpr (std::is_same_v<S, Bf16>) {
    return reinterpret_cast<Bf16*>(x.data_ptr<at::BFloat16>());
  } else {
    return x.data_ptr<S>();
  }
}

template <class T>
struct Cpu {
  const TriangleTensors& in;
  TriangleSizes sizes;
  at::Tensor shared, scratch;

  explicit Cpu(const TriangleTensors& in_)
      : in(in_),
        sizes{in.x.size(0),           in.x.size(1), in.x.size(3),
              in.norm_weight.size(0), in.outgoing,  in.lengths.const_data_ptr<int64_t>()},
        shared(at::empty({triangle_shared(sizes)}, in.x.options())),
        scratch(at::empty({workers() * triangle_scratch(sizes)}, in.x.options())) {}

  TriangleParameters<T> weights() const {
    return {in.in_weight.const_data_ptr<T>(),   in.in_bias.const_data_ptr<T>(),
            in.norm_weight.const_data_ptr<T>(), in.norm_bias.const_data_ptr<T>(),
            in.out_weight.const_data_ptr<T>(),  in.out_bias.const_data_ptr<T>()};
  }
  template <class S>
  at::Tensor channel_major() const {
    const auto type = std::is_same_v<S, T> ? in.x.scalar_type() : at::kBFloat16;
    return at::empty({sizes.batch, sizes.hidden, sizes.plane()}, in.x.options().dtype(type));
  }
  // For a result that is written in front of the lengths; behind them it is zero, or `residual`.
  at::Tensor result(const at::Tensor& residual) const {
    const bool padded = std::any_of(sizes.lengths, sizes.lengths + sizes.batch,
                                    [&](int64_t n) { return n < sizes.length; });
    if (!padded) return at::empty(in.x.sizes(), in.x.options());
    return in.residual ? residual.clone() : at::zeros(in.x.sizes(), in.x.options());
  }
  TriangleResidual<T> residual() const {
    if (!in.keep.defined()) return {in.residual, nullptr, 0, 0, 0};
    return {in.residual, in.keep.const_data_ptr<T>(), in.keep.stride(0), in.keep.stride(1),
            in.keep.stride(2)};
  }

  TriangleResult forward() const {
    return with_isa(in.bf16, [&](auto isa) {
      using S = Stored<isa, T>;
      const TriangleResult out = {result(in.x), channel_major<S>(), channel_major<S>(),
                                  channel_major<S>()};
      triangle_forward<isa>(
          TriangleForward<T, S>{sizes, residual(), weights(), in.x.const_data_ptr<T>(),
                                stored<S>(out.left), stored<S>(out.right), stored<S>(out.product),
                                out.y.data_ptr<T>(), shared.data_ptr<T>(), scratch.data_ptr<T>()});
      return out;
    });
  }

  TriangleGrads backward(const TriangleResult& saved, const at::Tensor& d_y) const {
    const TriangleGrads out = {result(d_y),
                               at::empty_like(in.in_weight),
                               at::empty_like(in.in_bias),
                               at::empty_like(in.norm_weight),
                               at::empty_like(in.norm_bias),
                               at::empty_like(in.out_weight),
                               at::empty_like(in.out_bias)};
    const at::Tensor partial = at::empty({sizes.slices(), triangle_partial(sizes)}, in.x.options());
    with_isa(in.bf16, [&](auto isa) {
      using S = Stored<isa, T>;
      const at::Tensor d_product = channel_major<S>(), d_right = channel_major<S>();
      triangle_backward<isa>(TriangleBackward<T, S>{sizes,
                                                    residual(),
                                                    weights(),
                                                    in.x.const_data_ptr<T>(),
                                                    stored<S>(saved.left),
                                                    stored<S>(saved.right),
                                                    stored<S>(saved.product),
                                                    d_y.const_data_ptr<T>(),
                                                    out.x.data_ptr<T>(),
                                                    stored<S>(d_product),
                                                    stored<S>(d_right),
                                                    out.in_weight.data_ptr<T>(),
                                                    out.in_bias.data_ptr<T>(),
                                                    out.norm_weight.data_ptr<T>(),
                                                    out.norm_bias.data_ptr<T>(),
                                                    out.out_weight.data_ptr<T>(),
                                                    out.out_bias.data_ptr<T>(),
                                                    partial.data_ptr<T>(),
                                                    shared.data_ptr<T>(),
                                                    scratch.data_ptr<T>()});
    });
    return out;
  }
};

struct TriangleMultiply : torch::autograd::Function<TriangleMultiply> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& in_weight,
                            const at::Tensor& in_bias, const at::Tensor& norm_weight,
                            const at::Tensor& norm_bias, const at::Tensor& out_weight,
                            const at::Tensor& out_bias, const at::Tensor& lengths, bool outgoing,
                            bool bf16, bool residual, const std::optional<at::Tensor>& keep) {
    const TriangleTensors in = {x.contiguous(), in_weight,  in_bias,  norm_weight,
                                norm_bias,      out_weight, out_bias, lengths,
                                outgoing,       bf16,       residual, keep.value_or(at::Tensor())};
    const TriangleResult out = !x.is_cpu()                      ? triangle_forward_aten(in)
                               : x.scalar_type() == at::kDouble ? Cpu<double>(in).forward()
                                                                : Cpu<float>(in).forward();
    ctx->save_for_backward({x, in_weight, in_bias, norm_weight, norm_bias, out_weight, out_bias,
                            lengths, out.left, out.right, out.product, in.keep});
    ctx->saved_data["outgoing"] = outgoing;
    ctx->saved_data["bf16"] = bf16;
    ctx->saved_data["residual"] = residual;
    return out.y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative(kOp);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = ctx->get_saved_variables();
    const TriangleTensors in = {saved[0].contiguous(),
                                saved[1],
                                saved[2],
                                saved[3],
                                saved[4],
                                saved[5],
                                saved[6],
                                saved[7],
                                ctx->saved_data["outgoing"].toBool(),
                                ctx->saved_data["bf16"].toBool(),
                                ctx->saved_data["residual"].toBool(),
                                saved[11]};
    const TriangleResult result = {{}, saved[8], saved[9], saved[10]};
    const at::Tensor d_y = grads[0].contiguous();
    const TriangleGrads d = !in.x.is_cpu() ? triangle_backward_aten(in, result, d_y)
                            : in.x.scalar_type() == at::kDouble
                                ? Cpu<double>(in).backward(result, d_y)
                                : Cpu<float>(in).backward(result, d_y);
    return {d.x,         d.in_weight,  d.in_bias,  d.norm_weight,
            d.norm_bias, d.out_weight, d.out_bias, {},
            {},          {},           {},         {}};
  }
};

#ifdef RIBO_CUDA_VERSION
// The same where a device has a kernel for all of it, which takes the weights as they are.
struct TriangleMultiplyOnDevice : torch::autograd::Function<TriangleMultiplyOnDevice> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, at::TensorList weights,
                            const std::optional<at::Tensor>& lengths, bool outgoing,
                            at::ScalarType type) {
    const TriangleOnDevice in = {x.contiguous(), weights.vec(), lengths.value_or(at::Tensor()),
                                 outgoing, type};
    const TriangleResult out = triangle_forward_on_cuda(in);
    variable_list saved = {x, in.lengths, out.left, out.right, out.product};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["outgoing"] = outgoing;
    ctx->saved_data["type"] = type;
    return out.y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative(kOp);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = ctx->get_saved_variables();
    const TriangleOnDevice in = {saved[0].contiguous(),
                                 {saved.begin() + 5, saved.end()},
                                 saved[1],
                                 ctx->saved_data["outgoing"].toBool(),
                                 ctx->saved_data["type"].toScalarType()};
    variable_list d = triangle_backward_on_cuda(in, {{}, saved[2], saved[3], saved[4]}, grads[0]);
    for (size_t i = 0; i < in.weights.size(); ++i) {
      d[1 + i] = d[1 + i].to(in.weights[i].scalar_type());
    }
    d.resize(d.size() + 3);  // lengths, outgoing, type
    return d;
  }
};
#endif

// The residual by LibTorch's operators.
at::Tensor add(const at::Tensor& x, const at::Tensor& update, bool residual,
               const at::Tensor& keep) {
  if (!residual) return update;
  return keep.defined() ? at::addcmul(x, update, keep) : x + update;
}

void check_keep(const at::Tensor& keep, bool residual, const at::Tensor& x) {
  if (!keep.defined()) return;
  const auto fits = [&](int64_t i) {
    return keep.size(i) == x.size(i) || (i % 3 && keep.size(i) == 1);
  };
  expect(residual, kOp, "keep", keep, "none without a residual");
  expect(keep.dim() == 4 && fits(0) && fits(1) && fits(2) && fits(3), kOp, "keep", keep,
         "x's shape, or that with 1 for either length");
  expect(keep.scalar_type() == x.scalar_type() && !keep.requires_grad(), kOp, "keep", keep,
         "x's type and no gradient");
  expect_device(kOp, "keep", keep, x);
}

at::Tensor implementation(const at::Tensor& x, at::TensorList weights,
                          const std::optional<at::Tensor>& lengths, bool outgoing, bool residual,
                          const std::optional<at::Tensor>& keep_) {
  const at::Tensor given = lengths.value_or(at::Tensor()), keep = keep_.value_or(at::Tensor());
  check(x, weights, given);
  check_keep(keep, residual, x);
  const at::ScalarType type =
      x.is_cpu() && x.scalar_type() != at::kDouble ? at::kFloat : product_type(x);
#ifdef RIBO_CUDA_VERSION
  if (triangle_fits_cuda(x, weights[2].size(0), type)) {
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const at::Tensor y = TriangleMultiplyOnDevice::apply(
        x.scalar_type() == at::kFloat ? x : x.to(type), weights, lengths, outgoing, type);
    return add(x, y.to(x.scalar_type()), residual, keep);
  }
#endif
  const at::Tensor ends = lengths_on_cpu(kOp, given, x.size(0), x.size(1));
  const bool bf16 = rounds_products(x);
  const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);

  // w (g u + b) + c = (w g) u + (w b + c): the norm's weight and bias go into the five maps that
  // read its result, and autograd takes the gradients back through this.
  const auto weight = [&](int i) { return weights[i].to(wide); };
  const at::Tensor maps = at::cat({weight(2), weight(4), weight(6), weight(8), weight(10)});
  const at::Tensor biases = at::cat({weight(3), weight(5), weight(7), weight(9), weight(11)});
  const bool fused = x.is_cpu() && residual;
  std::optional<at::Tensor> factors;
  if (fused && keep.defined()) factors = keep.to(type).contiguous().expand(x.sizes());
  const at::Tensor y =
      TriangleMultiply::apply(
          x.to(type), (maps * weight(0)).to(type), (biases + at::mv(maps, weight(1))).to(type),
          weight(12).to(type).contiguous(), weight(13).to(type).contiguous(),
          weight(14).t().to(type).contiguous(), weight(15).to(type).contiguous(), ends, outgoing,
          bf16, fused, factors)
          .to(x.scalar_type());
  return add(x, y, residual && !fused, keep);
}

at::Tensor call(const at::Tensor& x, const TriangleWeights& w, const at::Tensor& lengths,
                bool outgoing, bool residual, const at::Tensor& keep) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::triangle_multiply", "")
                             .typed<decltype(implementation)>();
  const std::array<at::Tensor, kNames.size()> weights = {
      w.norm_weight,       w.norm_bias,       w.left_weight,     w.left_bias,
      w.left_gate_weight,  w.left_gate_bias,  w.right_weight,    w.right_bias,
      w.right_gate_weight, w.right_gate_bias, w.out_gate_weight, w.out_gate_bias,
      w.out_norm_weight,   w.out_norm_bias,   w.out_weight,      w.out_bias};
  return op.call(x, weights, optional(lengths), outgoing, residual, optional(keep));
}

}  // namespace

at::Tensor triangle_multiply(const at::Tensor& x, const TriangleWeights& weights,
                             const at::Tensor& lengths, bool outgoing) {
  return call(x, weights, lengths, outgoing, /*residual=*/false, /*keep=*/{});
}

at::Tensor add_triangle_multiply(const at::Tensor& x, const TriangleWeights& weights,
                                 const at::Tensor& lengths, bool outgoing, const at::Tensor& keep) {
  return call(x, weights, lengths, outgoing, /*residual=*/true, keep);
}

void register_triangle_multiply(torch::Library& m) {
  m.def(
      "triangle_multiply(Tensor x, Tensor[] weights, Tensor? lengths, bool outgoing, "
      "bool residual=False, Tensor? keep=None) -> Tensor",
      &implementation);
}

}  // namespace ribo::kernels
