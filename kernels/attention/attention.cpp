#include "attention/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "attention/attention_aten.h"
#include "attention/attention_cpu.h"
#include "attention/attention_device.h"
#include "common/check.h"
#include "common/lengths.h"
#include "common/parallel.h"

namespace ribo::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tasks of the backward pass that share out the groups of a batch, each with its own sum of the
// bias's gradient: enough for every core, and the same whatever their number.
constexpr int64_t kTasks = 16;

at::Tensor channels_adjacent(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

// x is [B, G, L, H, d].
AttentionStrides strides(const at::Tensor& x) {
  return {x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

// The kernel's arguments, and the tensors that they point into.
template <class T>
struct CpuAttention {
  at::Tensor q, k, v, bias, lengths, scratch;

  explicit CpuAttention(const AttentionTensors& in)
      : q(channels_adjacent(in.q.to(kType))),
        k(channels_adjacent(in.k.to(kType))),
        v(channels_adjacent(in.v.to(kType))),
        bias(in.bias.to(kType).contiguous()),
        lengths(in.lengths) {}

  static constexpr at::ScalarType kType = c10::CppTypeToScalarType<T>::value;

  void fill(AttentionArgs<T>& args, const AttentionTensors& in, const at::Tensor& log_sum,
            int64_t scratch_elements) {
    args.batch = q.size(0);
    args.groups = q.size(1);
    args.length = q.size(2);
    args.heads = q.size(3);
    args.width = q.size(4);
    args.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(args.width)));
    args.lengths = lengths.const_data_ptr<int64_t>();
    args.q = q.const_data_ptr<T>();
    args.k = k.const_data_ptr<T>();
    args.v = v.const_data_ptr<T>();
    args.q_strides = strides(q);
    args.k_strides = strides(k);
    args.v_strides = strides(v);
    args.bias = bias.const_data_ptr<T>();
    args.keep = in.keep.defined() ? in.keep.const_data_ptr<bool>() : nullptr;
    args.kept = static_cast<T>(in.kept);
    args.log_sum = log_sum.data_ptr<T>();
    scratch = at::empty({workers() * scratch_elements}, q.options());
    args.scratch = scratch.data_ptr<T>();
  }
};

// Returns out in q's type, and log_sum.
template <class T>
std::pair<at::Tensor, at::Tensor> forward_cpu(const AttentionTensors& in, bool columns) {
  CpuAttention<T> cpu(in);
  const at::Tensor log_sum =
      at::empty({in.q.size(0), in.q.size(3), in.q.size(1), in.q.size(2)}, cpu.q.options());
  const at::Tensor out = empty_for(in.q, cpu.kType, columns);
  with_isa([&](auto isa) {
    AttentionForwardArgs<T> args;
    cpu.fill(args, in, log_sum, attention_forward_scratch<isa, T>(in.q.size(2), in.q.size(4)));
    args.out = out.template data_ptr<T>();
    args.out_strides = strides(out);
    attention_forward<isa, T>(args);
  });
  return {out.to(in.q.scalar_type()), log_sum};
}

template <class T>
AttentionGrads backward_cpu(const AttentionTensors& in, const at::Tensor& log_sum,
                            const at::Tensor& out_grad_given, bool columns) {
  CpuAttention<T> cpu(in);
  const at::Tensor out_grad = channels_adjacent(out_grad_given.to(cpu.kType));
  const int64_t slices = std::clamp<int64_t>(kTasks / std::max<int64_t>(1, in.q.size(0)), 1,
                                             std::max<int64_t>(1, in.q.size(1)));
  AttentionGrads grads{empty_for(in.q, cpu.kType, columns),
                       empty_for(in.q, cpu.kType, columns),
                       empty_for(in.q, cpu.kType, columns),
                       {}};
  const at::Tensor bias_grads =
      at::zeros({slices, in.q.size(0), in.q.size(3), in.q.size(2), in.q.size(2)}, cpu.q.options());
  with_isa([&](auto isa) {
    AttentionBackwardArgs<T> args;
    cpu.fill(args, in, log_sum, attention_backward_scratch<isa, T>(in.q.size(2), in.q.size(4)));
    args.out_grad = out_grad.const_data_ptr<T>();
    args.out_grad_strides = strides(out_grad);
    args.q_grad = grads.q.template data_ptr<T>();
    args.k_grad = grads.k.template data_ptr<T>();
    args.v_grad = grads.v.template data_ptr<T>();
    args.q_grad_strides = args.k_grad_strides = args.v_grad_strides = strides(grads.q);
    args.bias_grad = bias_grads.template data_ptr<T>();
    args.slices = slices;
    attention_backward<isa, T>(args);
  });
  grads.bias = bias_grads[0];
  for (int64_t i = 1; i < slices; ++i) grads.bias.add_(bias_grads[i]);
  return grads;
}

AttentionResult forward_on_device(AttentionTensors& in, bool columns) {
#ifdef RIBO_CUDA_VERSION
  if (attention_fits_cuda(in)) return attention_forward_on_cuda(in, columns);
#endif
  in.bias = in.bias.contiguous();
  if (!in.q.is_cpu()) return {attention_forward_aten(in), {}, {}};
  const auto [out, log_sum] = in.q.scalar_type() == at::kDouble ? forward_cpu<double>(in, columns)
                                                                : forward_cpu<float>(in, columns);
  return {out, log_sum, {}};
}

AttentionGrads backward_on_device(const AttentionTensors& in, const AttentionResult& result,
                                  const at::Tensor& out_grad, bool columns,
                                  [[maybe_unused]] bool wide_bias) {
#ifdef RIBO_CUDA_VERSION
  if (result.out.defined()) {
    return attention_backward_on_cuda(in, result, out_grad, columns, wide_bias);
  }
#endif
  if (!in.q.is_cpu()) return attention_backward_aten(in, out_grad);
  return in.q.scalar_type() == at::kDouble
             ? backward_cpu<double>(in, result.log_sum, out_grad, columns)
             : backward_cpu<float>(in, result.log_sum, out_grad, columns);
}

struct SharedBiasAttention : torch::autograd::Function<SharedBiasAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& bias,
                            const std::optional<at::Tensor>& lengths,
                            const std::optional<at::Tensor>& keep, double kept, bool columns) {
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    AttentionTensors in{
        q, k, v, bias, lengths.value_or(at::Tensor()), keep.value_or(at::Tensor()), kept};
    const AttentionResult result = forward_on_device(in, columns);
    if (result.bias.defined()) in.bias = result.bias;
    const bool wants_out = !q.is_cpu() && result.log_sum.defined();  // CUDA's backward pass
    ctx->save_for_backward({q, k, v, in.bias, in.lengths, in.keep, result.log_sum,
                            wants_out ? result.out : at::Tensor()});
    ctx->saved_data["kept"] = kept;
    ctx->saved_data["columns"] = columns;
    ctx->saved_data["bias"] = bias.scalar_type();
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list out_grads) {
    refuse_second_derivative("attention");
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = ctx->get_saved_variables();
    const AttentionTensors in{saved[0],
                              saved[1],
                              saved[2],
                              saved[3],
                              saved[4],
                              saved[5],
                              ctx->saved_data["kept"].toDouble()};
    const at::ScalarType bias_type = ctx->saved_data["bias"].toScalarType();
    const AttentionGrads grads =
        backward_on_device(in, {saved[7], saved[6], {}}, out_grads[0],
                           ctx->saved_data["columns"].toBool(), bias_type == at::kFloat);
    return {grads.q.to(in.q.scalar_type()),
            grads.k.to(in.k.scalar_type()),
            grads.v.to(in.v.scalar_type()),
            grads.bias.to(bias_type),
            {},
            {},
            {},
            {}};
  }
};

void expect_arguments(std::string_view op, const at::Tensor& q, const at::Tensor& k,
                      const at::Tensor& v, const at::Tensor& bias, at::IntArrayRef bias_shape,
                      std::string_view letters, std::string_view bias_letters) {
  expect(q.is_floating_point(), op, "q", q, "a floating type");
  expect_shape(op, "k", k, q.sizes(), letters);
  expect_shape(op, "v", v, q.sizes(), letters);
  expect_shape(op, "bias", bias, bias_shape, bias_letters);
  for (const auto& [name, x] : {std::pair("k", k), std::pair("v", v)}) {
    expect(x.scalar_type() == q.scalar_type(), op, name, x, cat("q's ", q.scalar_type()));
    expect_device(op, name, x, q);
  }
  expect(bias.is_floating_point(), op, "bias", bias, "a floating type");
  expect_device(op, "bias", bias, q);
}

// The lengths as the device's code takes them.
std::optional<at::Tensor> prepared(std::string_view op, const std::optional<at::Tensor>& lengths,
                                   const at::Tensor& q, int64_t length) {
  if (q.is_cpu()) return lengths_on_cpu(op, lengths.value_or(at::Tensor()), q.size(0), length);
  if (lengths) expect_lengths(op, *lengths, q.size(0));
  return lengths;
}

at::Tensor pair_bias_attention_op(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& bias, const std::optional<at::Tensor>& lengths,
                                  double dropout) {
  constexpr std::string_view kOp = "pair_bias_attention";
  expect_shape(kOp, "q", q, {-1, -1, -1, -1}, "[B, H, L, d]");
  expect_arguments(kOp, q, k, v, bias, {q.size(0), q.size(1), q.size(2), q.size(2)}, "[B, H, L, d]",
                   "[B, H, L, L]");
  if (!(dropout >= 0 && dropout <= 1)) {
    throw Error(cat(kOp, ": dropout is ", dropout, ", expected 0 to 1"));
  }
  std::optional<at::Tensor> keep;
  if (dropout > 0) {
    keep = at::empty(bias.sizes(), q.options().dtype(at::kBool)).bernoulli_(1 - dropout);
  }
  const auto one_group = [](const at::Tensor& x) { return x.transpose(1, 2).unsqueeze(1); };
  return SharedBiasAttention::apply(one_group(q), one_group(k), one_group(v), bias,
                                    prepared(kOp, lengths, q, q.size(2)), keep,
                                    dropout < 1 ? 1 / (1 - dropout) : 0, /*columns=*/false)
      .squeeze(1)
      .transpose(1, 2);
}

at::Tensor triangle_attention_op(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& bias, const std::optional<at::Tensor>& lengths,
                                 bool columns) {
  constexpr std::string_view kOp = "triangle_attention";
  expect_shape(kOp, "q", q, {-1, -1, -1, -1, -1}, "[B, L, L, H, d]");
  expect(q.size(1) == q.size(2), kOp, "q", q, "[B, L, L, H, d]");
  expect_arguments(kOp, q, k, v, bias, {q.size(0), q.size(1), q.size(1), q.size(3)},
                   "[B, L, L, H, d]", "[B, L, L, H]");
  const auto groups = [&](const at::Tensor& x) { return columns ? x.transpose(1, 2) : x; };
  const std::optional<at::Tensor> keep;
  return groups(
      SharedBiasAttention::apply(groups(q), groups(k), groups(v), bias.permute({0, 3, 1, 2}),
                                 prepared(kOp, lengths, q, q.size(1)), keep, 1.0, columns));
}

}  // namespace

at::Tensor pair_bias_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& bias, const at::Tensor& lengths, double dropout) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::pair_bias_attention", "")
                             .typed<decltype(pair_bias_attention_op)>();
  return op.call(q, k, v, bias, optional(lengths), dropout);
}

at::Tensor triangle_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& bias, const at::Tensor& lengths, bool columns) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("ribo::triangle_attention", "")
                             .typed<decltype(triangle_attention_op)>();
  return op.call(q, k, v, bias, optional(lengths), columns);
}

void register_attention(torch::Library& m) {
  m.def(
      "pair_bias_attention(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor? lengths=None, "
      "float dropout=0) -> Tensor",
      &pair_bias_attention_op);
  m.def(
      "triangle_attention(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor? lengths, "
      "bool columns) -> Tensor",
      &triangle_attention_op);
}

}  // namespace ribo::kernels
