// Everything that the library registers with LibTorch's dispatcher as `ribo::<op>`, once: autocast,
// the profiler and Python (torch.ops.load_library) see the operators there.
#include <torch/library.h>

#include "attention/attention.h"
#include "conv1d/conv1d.h"
#include "layer_norm/layer_norm.h"
#include "outer_product_mean/outer_product_mean.h"
#include "pair_bias/pair_bias.h"
#include "pair_transition/pair_transition.h"
#include "selective_scan/selective_scan.h"
#include "triangle_multiply/triangle_multiply.h"

TORCH_LIBRARY(ribo, m) {
  ribo::kernels::register_attention(m);
  ribo::kernels::register_conv1d(m);
  ribo::kernels::register_layer_norm(m);
  ribo::kernels::register_outer_product_mean(m);
  ribo::kernels::register_pair_bias(m);
  ribo::kernels::register_pair_transition(m);
  ribo::kernels::register_selective_scan(m);
  ribo::kernels::register_triangle_multiply(m);
}
