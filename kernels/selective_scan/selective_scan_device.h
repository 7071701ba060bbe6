// What a device does for selective_scan.cpp, which has checked the arguments.
#pragma once

#include "selective_scan/selective_scan.h"

namespace ribo::kernels {

/// What the same device's backward pass wants besides the arguments: states at some steps, and on
/// CUDA, where there is z, y before its gate.
struct ScanKept {
  at::Tensor states, ungated;
};
struct ScanOnDevice {
  at::Tensor y, last_state;
  ScanKept kept;  // undefined without `keep`
};

#ifdef RIBO_CUDA_VERSION
ScanOnDevice scan_forward_on_cuda(const SelectiveScanArgs& args, bool keep);

/// The gradients of the arguments of the same names; undefined dy and dlast_state stand for zeros.
SelectiveScanArgs scan_backward_on_cuda(const SelectiveScanArgs& args, const ScanKept& kept,
                                        const at::Tensor& dy, const at::Tensor& dlast_state);
#endif

}  // namespace ribo::kernels
