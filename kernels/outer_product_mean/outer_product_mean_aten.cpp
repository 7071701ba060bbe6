#include "outer_product_mean/outer_product_mean_aten.h"

#include <ATen/ATen.h>

#include "common/lengths.h"

namespace ribo::kernels {
namespace {

struct Problem {
  int64_t batch, length, width, channels;
  at::Tensor a, b, weight;  // in one type, a and b without padding; weight [C, K, K]
  at::Tensor outside;       // bool [B, L, L, 1]: pairs of which one is padding; or undefined

  explicit Problem(const OuterProductTensors& in)
      : batch(in.a.size(0)),
        length(in.a.size(1)),
        width(in.a.size(2)),
        channels(in.weight.size(0)),
        a(in.a),
        b(in.b.to(in.a.scalar_type())),
        weight(in.weight.to(in.a.scalar_type()).view({channels, width, width})) {
    if (!in.lengths.defined()) return;
    const at::Tensor padding = inside(in.lengths, length, a.device()).logical_not().unsqueeze(2);
    a = a.masked_fill(padding, 0);
    b = b.masked_fill(padding, 0);
    outside = padding.unsqueeze(1).logical_or(padding.unsqueeze(2));
  }

  // [B, L, C, K]: sum_d weight[z, c, d] a[i, d]
  at::Tensor projected() const {
    return at::matmul(a, weight.view({channels * width, width}).t())
        .view({batch, length, channels, width});
  }
};

}  // namespace

at::Tensor outer_product_forward_aten(const OuterProductTensors& in) {
  const Problem p(in);
  const auto type = (in.residual.defined() ? in.residual : in.a).scalar_type();
  at::Tensor out = at::zeros({p.batch, p.length, p.length, p.channels}, in.a.options().dtype(type));
  if (in.residual.defined()) out.add_(in.residual);
  if (in.bias.defined()) out.add_(in.bias);
  if (p.outside.defined()) out.masked_fill_(p.outside, 0);
  const at::Tensor projected = p.projected();
  for (int64_t s = 0; s < p.batch; ++s) {
    // One product a position i, all with the same left factor.
    const at::Tensor b = p.b[s].expand({p.length, p.length, p.width});
    const at::Tensor t = projected[s].transpose(1, 2);
    if (type == p.a.scalar_type()) {
      out[s].baddbmm_(b, t);
    } else {
      out[s].add_(at::bmm(b, t));
    }
  }
  return out;
}

OuterProductGrads outer_product_backward_aten(const OuterProductTensors& in,
                                              const at::Tensor& out_grad) {
  const Problem p(in);
  const auto type = p.a.scalar_type();
  OuterProductGrads grads;
  grads.residual = p.outside.defined() ? out_grad.masked_fill(p.outside, 0) : out_grad;
  grads.bias = grads.residual.sum({0, 1, 2}).to(type);
  const at::Tensor projected = p.projected();
  const at::Tensor projected_grad = at::empty_like(projected);
  grads.b = at::empty_like(p.b);
  for (int64_t s = 0; s < p.batch; ++s) {
    const at::Tensor g = grads.residual[s].to(type);
    at::Tensor to = projected_grad[s];
    at::bmm_out(to, g.transpose(1, 2), p.b[s].expand({p.length, p.length, p.width}));
    at::Tensor b_grad = grads.b[s];
    at::mm_out(b_grad, g.transpose(0, 1).reshape({p.length, p.length * p.channels}),
               projected[s].view({p.length * p.channels, p.width}));
  }
  const at::Tensor by_position = projected_grad.view({p.batch * p.length, p.channels * p.width});
  const at::Tensor a = p.a.reshape({p.batch * p.length, p.width});
  grads.weight = at::mm(by_position.t(), a).view({p.channels, p.width * p.width});
  grads.a = at::mm(by_position, p.weight.view({p.channels * p.width, p.width})).view(in.a.sizes());
  return grads;
}

}  // namespace ribo::kernels
