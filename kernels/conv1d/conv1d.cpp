#include "conv1d/conv1d.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "common/check.h"
#include "common/lengths.h"
#include "conv1d/conv1d_cpu.h"
#include "conv1d/conv1d_device.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
// autograd takes no undefined tensor as an argument.
using Optional = std::optional<at::Tensor>;

// Which residues an output sees: itself and those before it, those after it, or both.
enum class View : int64_t { before, after, around };

// Several filters of each channel, [C, K_i], as one of the widest one's width. Convolution is
// linear, so the sum of the outputs is the output of the sum.
class Filter {
 public:
  Filter(std::vector<at::Tensor> weights, View view) : weights_(std::move(weights)), view_(view) {
    for (const at::Tensor& w : weights_) width_ = std::max(width_, w.size(1));
  }

  int64_t width() const { return width_; }
  // How many rows in front of an output its first tap lies.
  int64_t before() const {
    return view_ == View::before ? width_ - 1 : view_ == View::after ? 0 : width_ / 2;
  }

  // [width, C], in the order of time.
  at::Tensor merge(at::ScalarType type) const {
    at::Tensor sum;
    if (weights_.size() == 1) {
      sum = weights_[0].t().to(type).contiguous();
    } else {
      sum = at::zeros({width_, weights_[0].size(0)}, weights_[0].options().dtype(type));
      for (const at::Tensor& w : weights_) taps_of(w, sum).add_(w.t());
    }
    return view_ == View::after ? sum.flip(0) : sum;
  }

  // The gradient of every filter from that of the merged one, the first `width` rows.
  variable_list split(const at::Tensor& gradient) const {
    const at::Tensor taps = gradient.narrow(0, 0, width_);
    const at::Tensor whole = view_ == View::after ? taps.flip(0) : taps;
    variable_list grads;
    for (const at::Tensor& w : weights_) {
      grads.push_back(at::empty(w.sizes(), w.options()).copy_(taps_of(w, whole).t()));
    }
    return grads;
  }

 private:
  at::Tensor taps_of(const at::Tensor& w, const at::Tensor& whole) const {
    const int64_t missing = width_ - w.size(1);
    return whole.narrow(0, view_ == View::around ? missing / 2 : missing, w.size(1));
  }

  std::vector<at::Tensor> weights_;
  View view_;
  int64_t width_ = 0;
};

bool has_code_for(const at::Tensor& x) {
#ifdef RIBO_CUDA_VERSION
  if (x.is_cuda()) return true;
#endif
  return x.is_cpu();
}

// CUDA's code reads bfloat16 and float16 as they are.
at::ScalarType stored_type(const at::Tensor& x) {
  const at::ScalarType type = x.scalar_type();
  if (type == at::kDouble) return type;
  return x.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) ? type : at::kFloat;
}

// Channels side by side; no copy where they are already.
at::Tensor rows(const at::Tensor& x, at::ScalarType type) {
  const at::Tensor y = x.to(type);
  return y.stride(2) == 1 ? y : y.contiguous();
}

Conv1dInputs prepare(const at::Tensor& x, const Filter& filter, const at::Tensor& bias,
                     const at::Tensor& lengths, bool silu) {
  const at::ScalarType real = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {rows(x, stored_type(x)),
          filter.merge(real),
          bias.defined() ? bias.to(real).contiguous() : bias,
          lengths,
          filter.before(),
          silu};
}

template <class T>
void forward_on_cpu(const Conv1dInputs& in, const at::Tensor& y) {
  Conv1dArgs<T> args = conv1d_args<T, T>(in);
  args.y = y.mutable_data_ptr<T>();
  with_isa([&](auto isa) { conv1d_forward<isa()>(args); });
}

template <class T>
void backward_on_cpu(const Conv1dInputs& in, const at::Tensor& dy, const at::Tensor& dx,
                     const at::Tensor& sums) {
  Conv1dArgs<T> args = conv1d_args<T, T>(in);
  set_gradients(args, dy, dx, sums);
  with_isa([&](auto isa) { conv1d_backward<isa()>(args); });
}

at::Tensor forward_on_device(const Conv1dInputs& in) {
  const at::Tensor y = at::empty(in.x.sizes(), in.x.options());
#ifdef RIBO_CUDA_VERSION
  if (in.x.is_cuda()) {
    conv1d_forward_on_cuda(in, y);
    return y;
  }
#endif
  if (in.x.scalar_type() == at::kDouble) {
    forward_on_cpu<double>(in, y);
  } else {
    forward_on_cpu<float>(in, y);
  }
  return y;
}

struct Gradients {
  at::Tensor x, sums;  // sums [K + 1, C]: weight's, bias's
};

Gradients backward_on_device(const Conv1dInputs& in, const at::Tensor& dy_) {
  const at::Tensor dy = rows(dy_, in.x.scalar_type());
  const at::Tensor dx = at::empty(in.x.sizes(), in.x.options());
  const int64_t pieces = in.x.size(0) * conv1d_pieces(in.x.size(1));
  const at::Tensor sums = at::empty({pieces, in.width() + 1, in.x.size(2)}, in.weight.options());
#ifdef RIBO_CUDA_VERSION
  if (in.x.is_cuda()) {
    conv1d_backward_on_cuda(in, dy, dx, sums);
    return {dx, sums[0]};
  }
#endif
  if (in.x.scalar_type() == at::kDouble) {
    backward_on_cpu<double>(in, dy, dx, sums);
  } else {
    backward_on_cpu<float>(in, dy, dx, sums);
  }
  return {dx, sums[0]};
}

struct Conv1d : torch::autograd::Function<Conv1d> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Optional& bias_,
                            const Optional& lengths_, at::TensorList weights, View view,
                            bool silu) {
    const at::Tensor bias = bias_.value_or(at::Tensor()), lengths = lengths_.value_or(at::Tensor());
    variable_list saved = {x, bias, lengths};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["view"] = static_cast<int64_t>(view);
    ctx->saved_data["silu"] = silu;
    if (x.numel() == 0) return at::empty(x.sizes(), x.options());
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    return forward_on_device(prepare(x, Filter(weights.vec(), view), bias, lengths, silu))
        .to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("conv1d");
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &bias = saved[1], &lengths = saved[2];
    const Filter filter({saved.begin() + 3, saved.end()},
                        static_cast<View>(ctx->saved_data["view"].toInt()));
    const Conv1dInputs in = prepare(x, filter, bias, lengths, ctx->saved_data["silu"].toBool());
    Gradients g;
    if (x.numel() == 0) {
      g = {at::zeros(x.sizes(), x.options()),
           at::zeros({filter.width() + 1, x.size(2)}, in.weight.options())};
    } else {
      g = backward_on_device(in, grads[0]);
    }
    variable_list out = {g.x.to(x.scalar_type()), {}, {}};
    if (bias.defined()) out[1] = g.sums[filter.width()].to(bias.scalar_type(), false, true);
    for (at::Tensor& weight : filter.split(g.sums)) out.push_back(std::move(weight));
    out.resize(out.size() + 2);  // view, silu
    return out;
  }
};

void check(const char* op, const at::Tensor& x, at::TensorList weights, const Optional& bias,
           bool several, bool odd) {
  expect_shape(op, "x", x, {-1, -1, -1}, "[B, L, C]");
  expect(x.is_floating_point(), op, "x", x, "a floating type");
  expect(has_code_for(x), op, "x", x, "a tensor on the CPU: there is no code for this device");
  if (weights.empty()) throw Error(cat(op, ": weights is empty, expected at least one filter"));
  for (size_t i = 0; i < weights.size(); ++i) {
    const std::string name = several ? cat("weights[", i, "]") : "weight";
    const at::Tensor& w = weights[i];
    expect_shape(op, name, w, {x.size(2), -1}, "[C, K]");
    const int64_t width = w.size(1);
    expect(width >= 1 && width <= kConv1dWidest && (!odd || width % 2 == 1), op, name, w,
           odd ? "an odd width of 1 to 63" : "a width of 1 to 63");
    expect(w.is_floating_point(), op, name, w, "a floating type");
    expect_device(op, name, w, x);
  }
  if (!bias) return;
  expect_shape(op, "bias", *bias, {x.size(2)}, "[C]");
  expect(bias->is_floating_point(), op, "bias", *bias, "a floating type");
  expect_device(op, "bias", *bias, x);
}

// On x's device. A GPU's code takes the nearest possible lengths, so that nothing waits for it.
Optional checked_lengths(const char* op, const Optional& lengths, const at::Tensor& x) {
  if (!lengths) return lengths;
  if (x.is_cpu()) return lengths_on_cpu(op, *lengths, x.size(0), x.size(1));
  expect_lengths(op, *lengths, x.size(0));
  return lengths->to(x.device(), at::kLong).contiguous();
}

at::Tensor causal_conv1d_implementation(const at::Tensor& x, const at::Tensor& weight,
                                        const Optional& bias, const Optional& lengths, bool silu,
                                        bool reverse) {
  check("causal_conv1d", x, weight, bias, /*several=*/false, /*odd=*/false);
  return Conv1d::apply(x, bias, checked_lengths("causal_conv1d", lengths, x),
                       at::TensorList(weight), reverse ? View::after : View::before, silu);
}

at::Tensor depthwise_conv1d_implementation(const at::Tensor& x, at::TensorList weights,
                                           const Optional& bias, const Optional& lengths,
                                           bool causal) {
  check("depthwise_conv1d", x, weights, bias, /*several=*/true, /*odd=*/!causal);
  return Conv1d::apply(x, bias, checked_lengths("depthwise_conv1d", lengths, x), weights,
                       causal ? View::before : View::around, /*silu=*/false);
}

}  // namespace

at::Tensor causal_conv1d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& lengths, bool silu, bool reverse) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::causal_conv1d", "")
                             .typed<decltype(causal_conv1d_implementation)>();
  return op.call(x, weight, optional(bias), optional(lengths), silu, reverse);
}

at::Tensor depthwise_conv1d(const at::Tensor& x, at::TensorList weights, const at::Tensor& bias,
                            const at::Tensor& lengths, bool causal) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::depthwise_conv1d", "")
                             .typed<decltype(depthwise_conv1d_implementation)>();
  return op.call(x, weights, optional(bias), optional(lengths), causal);
}

void register_conv1d(torch::Library& m) {
  m.def(
      "causal_conv1d(Tensor x, Tensor weight, Tensor? bias, Tensor? lengths, bool silu, "
      "bool reverse) -> Tensor",
      &causal_conv1d_implementation);
  m.def(
      "depthwise_conv1d(Tensor x, Tensor[] weights, Tensor? bias, Tensor? lengths, "
      "bool causal) -> Tensor",
      &depthwise_conv1d_implementation);
}

}  // namespace ribo::kernels
