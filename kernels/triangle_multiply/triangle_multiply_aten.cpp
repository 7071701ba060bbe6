#include "triangle_multiply/triangle_multiply_aten.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <vector>

#include "common/lengths.h"
#include "layer_norm/layer_norm.h"

namespace ribo::kernels {
namespace {

constexpr double kEpsilon = 1e-5;
// Positions of a group of rows: enough to fill a device, and its intermediates stay below those of
// a whole [B, L, L, H].
constexpr int64_t kPositions = 1 << 18;

struct Rows {
  int64_t first, count;
};

template <class F>
void each_rows(const at::Tensor& x, F&& f) {
  const int64_t length = x.size(1), row = std::max<int64_t>(1, x.size(0) * length);
  const int64_t step = std::max<int64_t>(1, kPositions / row);
  for (int64_t i = 0; i < length; i += step) f(Rows{i, std::min(step, length - i)});
}

// Bool [B, rows, L, 1]: both positions in front of the length.
at::Tensor inside_pairs(const TriangleTensors& in, Rows rows) {
  const at::Tensor mask = inside(in.lengths, in.x.size(1), in.x.device());
  return (mask.narrow(1, rows.first, rows.count).unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(3);
}

// [B, rows, L, C], zero behind the lengths whatever x holds there.
at::Tensor read(const TriangleTensors& in, const at::Tensor& x, Rows rows) {
  return x.narrow(1, rows.first, rows.count).masked_fill(~inside_pairs(in, rows), 0);
}

at::Tensor normalise(const at::Tensor& x) { return layer_norm(x, {}, {}, kEpsilon); }

// x [B, rows, L, C] -> left and right in one, [B, 2 H, rows, L].
at::Tensor project(const TriangleTensors& in, const at::Tensor& x, const at::Tensor& weight,
                   const at::Tensor& bias, Rows rows) {
  const int64_t batch = x.size(0), hidden = in.norm_weight.size(0);
  const at::Tensor u = normalise(x).view({batch, rows.count * x.size(2), x.size(3)});
  const at::Tensor y =
      at::baddbmm(bias.narrow(0, 0, 4 * hidden).unsqueeze(1),
                  weight.narrow(0, 0, 4 * hidden).expand({batch, -1, -1}), u.transpose(1, 2))
          .view({batch, 2, 2, hidden, rows.count, x.size(2)});
  return (y.select(2, 0) * y.select(2, 1).sigmoid())
      .view({batch, 2 * hidden, rows.count, x.size(2)})
      .masked_fill(~inside_pairs(in, rows).squeeze(3).unsqueeze(1), 0);
}

// x [B, rows, L, C], product [B, H, rows, L] -> y [B, rows, L, C]
at::Tensor output(const TriangleTensors& in, const at::Tensor& x, const at::Tensor& product,
                  Rows rows) {
  const int64_t hidden = in.norm_weight.size(0);
  const at::Tensor gate = at::linear(normalise(x), in.in_weight.narrow(0, 4 * hidden, hidden),
                                     in.in_bias.narrow(0, 4 * hidden, hidden))
                              .sigmoid();
  const at::Tensor z =
      layer_norm(product.permute({0, 2, 3, 1}), in.norm_weight, in.norm_bias, kEpsilon);
  return at::linear(z * gate, in.out_weight.t(), in.out_bias)
      .masked_fill(~inside_pairs(in, rows), 0);
}

at::Tensor leaf(const at::Tensor& x) { return x.detach().requires_grad_(); }

void accumulate(at::Tensor& sum, const at::Tensor& x) { sum = sum.defined() ? sum.add_(x) : x; }

}  // namespace

TriangleResult triangle_forward_aten(const TriangleTensors& in) {
  const int64_t batch = in.x.size(0), length = in.x.size(1), hidden = in.norm_weight.size(0);
  TriangleResult out;
  out.left = at::empty({batch, hidden, length, length}, in.x.options());
  out.right = at::empty_like(out.left);
  out.y = at::empty(in.x.sizes(), in.x.options());
  each_rows(in.x, [&](Rows rows) {
    const at::Tensor both = project(in, read(in, in.x, rows), in.in_weight, in.in_bias, rows);
    out.left.narrow(2, rows.first, rows.count).copy_(both.narrow(1, 0, hidden));
    out.right.narrow(2, rows.first, rows.count).copy_(both.narrow(1, hidden, hidden));
  });
  out.product = in.outgoing ? at::matmul(out.left, out.right.transpose(2, 3))
                            : at::matmul(out.right.transpose(2, 3), out.left);
  each_rows(in.x, [&](Rows rows) {
    out.y.narrow(1, rows.first, rows.count)
        .copy_(
            output(in, read(in, in.x, rows), out.product.narrow(2, rows.first, rows.count), rows));
  });
  return out;
}

// Each group of rows is recomputed and differentiated by autograd, as gradient checkpointing does.
TriangleGrads triangle_backward_aten(const TriangleTensors& in, const TriangleResult& result,
                                     const at::Tensor& d_y) {
  at::AutoGradMode recording(true);
  TriangleTensors leaves = in;
  for (at::Tensor* w : {&leaves.in_weight, &leaves.in_bias, &leaves.norm_weight, &leaves.norm_bias,
                        &leaves.out_weight, &leaves.out_bias}) {
    *w = leaf(*w);
  }
  TriangleGrads grads;
  grads.x = at::empty(in.x.sizes(), in.x.options());
  at::Tensor d_product = at::empty_like(result.product);
  each_rows(in.x, [&](Rows rows) {
    const auto here = [&](const at::Tensor& x, int64_t dim) {
      return x.narrow(dim, rows.first, rows.count);
    };
    const at::Tensor x = leaf(read(in, in.x, rows)), product = leaf(here(result.product, 2));
    const auto d =
        torch::autograd::grad({output(leaves, x, product, rows)},
                              {x, product, leaves.in_weight, leaves.in_bias, leaves.norm_weight,
                               leaves.norm_bias, leaves.out_weight, leaves.out_bias},
                              {read(in, d_y, rows)});
    here(grads.x, 1).copy_(d[0]);
    here(d_product, 2).copy_(d[1]);
    accumulate(grads.in_weight, d[2]);
    accumulate(grads.in_bias, d[3]);
    accumulate(grads.norm_weight, d[4]);
    accumulate(grads.norm_bias, d[5]);
    accumulate(grads.out_weight, d[6]);
    accumulate(grads.out_bias, d[7]);
  });
  const at::Tensor turned = d_product.transpose(2, 3);
  const at::Tensor d_left =
      in.outgoing ? at::matmul(d_product, result.right) : at::matmul(result.right, d_product);
  const at::Tensor d_right =
      in.outgoing ? at::matmul(turned, result.left) : at::matmul(result.left, turned);
  each_rows(in.x, [&](Rows rows) {
    const at::Tensor x = leaf(read(in, in.x, rows));
    const auto d = torch::autograd::grad(
        {project(leaves, x, leaves.in_weight, leaves.in_bias, rows)},
        {x, leaves.in_weight, leaves.in_bias},
        {at::cat(
            {d_left.narrow(2, rows.first, rows.count), d_right.narrow(2, rows.first, rows.count)},
            1)});
    grads.x.narrow(1, rows.first, rows.count).add_(d[0]);
    accumulate(grads.in_weight, d[1]);
    accumulate(grads.in_bias, d[2]);
  });
  return grads;
}

}  // namespace ribo::kernels
