#include "pair_transition/pair_transition_aten.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "common/lengths.h"
#include "layer_norm/layer_norm.h"

namespace ribo::kernels {
namespace {

// Elements of the hidden layer that exist at a time.
constexpr int64_t kHidden = int64_t{1} << 24;

struct Problem {
  int64_t channels, positions, step;
  double eps;
  at::ScalarType type, sum_type;  // of products; of norms and sums
  at::Tensor x;                   // [P, C]
  at::Tensor norm_weight, norm_bias, w1, b1, w2, b2;
  at::Tensor outside;  // bool [P, 1]: positions of padding; or undefined

  explicit Problem(const TransitionTensors& in)
      : channels(in.x.size(-1)),
        positions(in.x.numel() / channels),
        step(std::max<int64_t>(1, kHidden / in.w1.size(0))),
        eps(in.eps),
        type(in.type),
        sum_type(in.x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
        x(in.x.reshape({positions, channels})),
        norm_weight(in.norm_weight.to(sum_type)),
        norm_bias(in.norm_bias.to(sum_type)),
        w1(in.w1.to(type)),
        b1(in.b1.to(type)),
        w2(in.w2.to(type)),
        b2(in.b2.to(type)) {
    if (!in.lengths.defined()) return;
    const at::Tensor here = inside(in.lengths, in.x.size(1), in.x.device());
    outside = here.unsqueeze(2).logical_and(here.unsqueeze(1)).logical_not().view({positions, 1});
  }

  // Rows [start, start + rows) of x or of a gradient, zero in the padding.
  at::Tensor rows(const at::Tensor& from, int64_t start, int64_t rows, at::ScalarType to) const {
    const at::Tensor part = from.narrow(0, start, rows);
    return (outside.defined() ? part.masked_fill(outside.narrow(0, start, rows), 0) : part).to(to);
  }

  at::Tensor hidden(const at::Tensor& normed) const {
    return at::addmm(b1, normed, w1.t()).relu_();
  }
};

at::Tensor leaf(const at::Tensor& x) { return x.detach().requires_grad_(); }

// f() with a graph, in a backward pass that has none.
template <class F>
at::Tensor recorded(F&& f) {
  const at::AutoGradMode recording(true);
  return f();
}

}  // namespace

at::Tensor transition_forward_aten(const TransitionTensors& in) {
  const Problem p(in);
  at::Tensor y = at::empty({p.positions, p.channels}, p.x.options());
  for (int64_t start = 0; start < p.positions; start += p.step) {
    const int64_t rows = std::min(p.step, p.positions - start);
    const at::Tensor x = p.rows(p.x, start, rows, p.sum_type);
    const at::Tensor normed = layer_norm(x, p.norm_weight, p.norm_bias, p.eps).to(p.type);
    y.narrow(0, start, rows).copy_(at::addmm(p.b2, p.hidden(normed), p.w2.t()).add(x));
  }
  if (p.outside.defined()) y.masked_fill_(p.outside, 0);
  return y.view(in.x.sizes());
}

TransitionGrads transition_backward_aten(const TransitionTensors& in, const at::Tensor& y_grad) {
  const Problem p(in);
  const int64_t hidden_width = p.w1.size(0);
  const at::Tensor norm_weight = leaf(p.norm_weight), norm_bias = leaf(p.norm_bias);
  const auto sums = p.x.options().dtype(p.sum_type);
  const at::Tensor dy_all = y_grad.reshape({p.positions, p.channels});
  at::Tensor dx = at::empty({p.positions, p.channels}, p.x.options());
  at::Tensor d_norm_weight = at::zeros({p.channels}, sums), d_norm_bias = d_norm_weight.clone(),
             db2 = d_norm_weight.clone(), db1 = at::zeros({hidden_width}, sums),
             dw1 = at::zeros({hidden_width, p.channels}, sums),
             dw2 = at::zeros({p.channels, hidden_width}, sums);
  for (int64_t start = 0; start < p.positions; start += p.step) {
    const int64_t rows = std::min(p.step, p.positions - start);
    const at::Tensor x = leaf(p.rows(p.x, start, rows, p.sum_type));
    const at::Tensor norm = recorded([&] { return layer_norm(x, norm_weight, norm_bias, p.eps); });
    const at::Tensor normed = norm.detach().to(p.type), hidden = p.hidden(normed);
    const at::Tensor dy = p.rows(dy_all, start, rows, p.sum_type), narrow = dy.to(p.type);
    dw2.add_(at::mm(narrow.t(), hidden));
    db2.add_(dy.sum(0));
    const at::Tensor d_hidden = at::threshold_backward(at::mm(narrow, p.w2), hidden, 0);
    dw1.add_(at::mm(d_hidden.t(), normed));
    db1.add_(d_hidden.sum(0, /*keepdim=*/false, p.sum_type));
    const auto d_norm = torch::autograd::grad({norm}, {x, norm_weight, norm_bias},
                                              {at::mm(d_hidden, p.w1).to(p.sum_type)});
    d_norm_weight.add_(d_norm[1]);
    d_norm_bias.add_(d_norm[2]);
    dx.narrow(0, start, rows).copy_(d_norm[0].add(dy));
  }
  if (p.outside.defined()) dx.masked_fill_(p.outside, 0);
  return {dx.view(in.x.sizes()), d_norm_weight, d_norm_bias, dw1, db1, dw2, db2};
}

}  // namespace ribo::kernels
