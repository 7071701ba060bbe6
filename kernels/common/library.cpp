// Everything that the library registers with LibTorch's dispatcher as `ribo::<op>`, once: autocast,
// the profiler and Python (torch.ops.load_library) see the operators there.
#include <torch/library.h>

#include "selective_scan/selective_scan.h"

TORCH_LIBRARY(ribo, m) { ribo::kernels::register_selective_scan(m); }
