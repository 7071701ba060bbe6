#include "common/autocast.h"

#include <ATen/autocast_mode.h>

namespace ribo::kernels {

bool rounds_products(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() != at::kDouble &&
         at::autocast::is_autocast_enabled(at::kCPU) &&
         at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
}

at::ScalarType product_type(const at::Tensor& x) {
  const at::DeviceType device = x.device().type();
  return x.scalar_type() != at::kDouble && at::autocast::is_autocast_enabled(device)
             ? at::autocast::get_autocast_dtype(device)
             : x.scalar_type();
}

}  // namespace ribo::kernels
