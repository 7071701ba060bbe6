// A GPU's clock, and loops that run at one of its limits. No torch here. Everything is enqueued on
// the default stream, where LibTorch's work is too; CUDA's errors are std::runtime_error.
#pragma once

#include <cstdint>
#include <functional>

namespace ribo::kernels::bench {

/// The seconds from the first to the last of what `enqueue` puts onto the default stream. In front
/// of it a kernel idles for `head_start` seconds, so that the host has enqueued everything (which
/// takes autograd longer than many a kernel) before the GPU begins: its time alone counts. Where
/// the host took longer, the head start doubles and everything is done again, until it is beyond
/// kLongestHeadStart: then the time is one that the GPU also waited in.
double gpu_seconds(const std::function<void()>& enqueue, double& head_start);
inline constexpr double kLongestHeadStart = 0.02;

/// Threads that fill the GPU.
int64_t gpu_threads();

/// Enqueue, in every one of gpu_threads(), that many exponentials, or multiply-adds, in registers.
void gpu_exponentials();
void gpu_multiply_adds();
inline constexpr int64_t kGpuExps = 1 << 14, kGpuOps = 1 << 17;  // about a millisecond

}  // namespace ribo::kernels::bench
