// The only file that is compiled with OpenMP; LibTorch's own libgomp runs it.
#include "common/parallel.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>

namespace ribo::kernels {

int workers() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

void parallel(int64_t tasks, FunctionRef<void(int64_t, int)> task) {
  const int threads = static_cast<int>(std::min<int64_t>(workers(), tasks));
  if (threads <= 1) {
    for (int64_t i = 0; i < tasks; ++i) task(i, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    // Not at::get_thread_num(): outside LibTorch's own loops that is 0 on every thread.
    const int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < tasks; ++i) task(i, worker);
  }
}

}  // namespace ribo::kernels
