#include "attention/attention_aten.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/lengths.h"

namespace ribo::kernels {
namespace {

// Logits that exist at once, unless one group has more: 64 MiB in float32.
constexpr int64_t kLogits = int64_t{1} << 24;

class Chunks {
 public:
  explicit Chunks(const AttentionTensors& in)
      : in_(in), scale_(1 / std::sqrt(static_cast<double>(in.q.size(4)))) {
    const at::Tensor& q = in.q;
    type_ = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    groups_ = std::clamp<int64_t>(kLogits / std::max<int64_t>(1, in.bias.numel()), 1,
                                  std::max<int64_t>(1, q.size(1)));
    if (!in.lengths.defined()) return;
    const at::Tensor positions = inside(in.lengths, q.size(2), q.device());
    outside_key_ = positions.logical_not().view({q.size(0), 1, 1, 1, q.size(2)});
    // One group stands for the sequence; several are positions themselves.
    outside_ = positions.logical_not().view({q.size(0), 1, q.size(2), 1, 1});
    if (q.size(1) > 1) outside_ = outside_.logical_or(outside_.transpose(1, 2));
  }

  template <class F>
  void each(F&& f) const {
    for (int64_t g = 0; g < in_.q.size(1); g += groups_) {
      f(g, std::min(groups_, in_.q.size(1) - g));
    }
  }

  // [B, n, H, L, d]; zeros in the padding, where anything may stand.
  at::Tensor heads(const at::Tensor& x, int64_t g, int64_t n) const {
    at::Tensor part = x.narrow(1, g, n);
    if (outside_.defined()) part = part.masked_fill(outside_of(g, n), 0);
    return part.transpose(2, 3);
  }

  // [B, n, H, L, L] in float32 or float64; zero where the query is padding.
  at::Tensor weights(const at::Tensor& q, const at::Tensor& k, int64_t g, int64_t n) const {
    at::Tensor logits = at::matmul(q * scale_, k.transpose(-1, -2)).to(type_);
    logits.add_(in_.bias.unsqueeze(1));
    if (!outside_.defined()) return at::_safe_softmax(logits, -1);
    // Also the whole of a padded row, whose bias may hold anything: its softmax is 0.
    logits.masked_fill_(outside_key_, -std::numeric_limits<double>::infinity());
    logits.masked_fill_(outside_of(g, n).transpose(2, 3), -std::numeric_limits<double>::infinity());
    return at::_safe_softmax(logits, -1);
  }

  // With dropout.
  at::Tensor dropped(const at::Tensor& weights) const {
    return in_.keep.defined() ? weights * in_.keep.unsqueeze(1) * in_.kept : weights;
  }

  double scale() const { return scale_; }
  at::ScalarType type() const { return type_; }

 private:
  at::Tensor outside_of(int64_t g, int64_t n) const {
    return outside_.size(1) == 1 ? outside_ : outside_.narrow(1, g, n);
  }

  const AttentionTensors& in_;
  const double scale_;
  at::ScalarType type_;
  int64_t groups_;
  at::Tensor outside_key_, outside_;
};

}  // namespace

at::Tensor attention_forward_aten(const AttentionTensors& in) {
  const Chunks chunks(in);
  at::Tensor out = at::empty_like(in.q);
  chunks.each([&](int64_t g, int64_t n) {
    const at::Tensor q = chunks.heads(in.q, g, n), k = chunks.heads(in.k, g, n);
    const at::Tensor weights = chunks.dropped(chunks.weights(q, k, g, n)).to(q.scalar_type());
    out.narrow(1, g, n).copy_(at::matmul(weights, chunks.heads(in.v, g, n)).transpose(2, 3));
  });
  return out;
}

AttentionGrads attention_backward_aten(const AttentionTensors& in, const at::Tensor& out_grad) {
  const Chunks chunks(in);
  AttentionGrads grads{at::empty_like(in.q), at::empty_like(in.k), at::empty_like(in.v),
                       at::zeros(in.bias.sizes(), in.bias.options().dtype(chunks.type()))};
  chunks.each([&](int64_t g, int64_t n) {
    const at::Tensor q = chunks.heads(in.q, g, n), k = chunks.heads(in.k, g, n);
    const at::Tensor v = chunks.heads(in.v, g, n), d_out = chunks.heads(out_grad, g, n);
    const auto type = q.scalar_type();
    const auto write = [&](const at::Tensor& grad, const at::Tensor& part) {
      grad.narrow(1, g, n).copy_(part.transpose(2, 3));
    };
    const at::Tensor weights = chunks.weights(q, k, g, n);
    write(grads.v, at::matmul(chunks.dropped(weights).to(type).transpose(-1, -2), d_out));
    // dL/dweight, then dL/dlogit.
    at::Tensor d = chunks.dropped(at::matmul(d_out, v.transpose(-1, -2)).to(chunks.type()));
    d = d.mul_(weights);
    d = d.sub_(weights * d.sum(-1, /*keepdim=*/true));
    grads.bias.add_(d.sum(1));
    d = d.to(type);
    write(grads.q, at::matmul(d, k).mul_(chunks.scale()));
    write(grads.k, at::matmul(d.transpose(-1, -2), q).mul_(chunks.scale()));
  });
  return grads;
}

}  // namespace ribo::kernels
