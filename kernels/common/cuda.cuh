// What the CUDA files share: types, elementary functions and launching. Compiled for float32 with
// -ftz=true, so that exp2f is one instruction.
//
// Nothing here needs the compiler to be nvcc: tests/kernels/cuda_on_host runs the kernels on a CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

namespace ribo::kernels {

/// What a kernel computes in, for tensors of type Io.
template <class Io>
using Real = std::conditional_t<std::is_same_v<Io, double>, double, float>;

__device__ inline double widen(double x) { return x; }
__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

template <class Io>
__device__ inline Io narrow(Real<Io> x) {
  if constexpr (std::is_same_v<Io, __nv_bfloat16>) {
    return __float2bfloat16(x);
  } else if constexpr (std::is_same_v<Io, __half>) {
    return __float2half(x);
  } else {
    return x;
  }
}

inline constexpr double kLog2E = 1.4426950408889634074;

__device__ inline float power_of_2(float x) { return exp2f(x); }
__device__ inline double power_of_2(double x) { return exp2(x); }
__device__ inline float log2_of(float x) { return __log2f(x); }
__device__ inline float reciprocal(float x) { return __fdividef(1.0f, x); }
__device__ inline double reciprocal(double x) { return 1 / x; }

template <class T>
__device__ inline T sigmoid(T x) {
  return reciprocal(1 + power_of_2(x * static_cast<T>(-kLog2E)));
}

template <class T>
__device__ inline T silu(T x) {
  return x * sigmoid(x);
}

/// The derivative of silu().
template <class T>
__device__ inline T silu_derivative(T x) {
  const T s = sigmoid(x);
  // Where s is zero or one the second term is zero, but x may be too large to multiply with.
  const T slope = s * (1 - s);
  return slope == 0 ? s : s + x * slope;
}

/// log(1 + t) for 0 <= t <= 1, as 2 atanh(t / (2 + t)): keeps the relative error of small t.
__device__ inline float log1p_unit(float t) {
  const float s = t * reciprocal(t + 2), q = s * s;
  float series = 1.0f / 15;
#pragma unroll
  for (int k = 13; k > 0; k -= 2) series = series * q + 1.0f / static_cast<float>(k);
  return 2 * s * series;
}
__device__ inline double log1p_unit(double t) { return log1p(t); }

/// log(1 + exp(x)), without overflow; NaN stays. Where it is wanted to 16 bits only, in half of the
/// time: relative error below 2e-5.
template <class Io, class T>
__device__ inline T softplus(T x) {
  const T t = power_of_2(fabs(x) * static_cast<T>(-kLog2E));
  if constexpr (sizeof(Io) == 2) {
    const T small = t - T{0.5} * t * t, large = log2_of(1 + t) * static_cast<T>(1 / kLog2E);
    return fmax(x, T{0}) + (t < T{1} / 256 ? small : large);
  } else {
    return fmax(x, T{0}) + log1p_unit(t);
  }
}

/// The length of sequence b, at most `length`; `lengths` may be null. What lies outside 0 .. length
/// is taken as the nearest of those.
__device__ inline int64_t length_of(const int64_t* lengths, int64_t b, int64_t length) {
  return lengths ? min(max(lengths[b], int64_t{0}), length) : length;
}

/// The block's dynamic shared memory, at a multiple of 1024 bytes.
template <class T>
__device__ inline T* shared_memory() {
  alignas(1024) extern __shared__ uint4 shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
}

/// __syncthreads() that warps may reach at different places of a kernel.
__device__ inline void barrier() {
#ifdef __CUDACC__
  asm volatile("barrier.sync 0;" ::: "memory");
#else
  __syncthreads();
#endif
}

/// Half of a block of kThreads says that it has come here, and goes on; it is half 0 or 1.
template <int kThreads>
__device__ inline void arrive([[maybe_unused]] int half) {
#ifdef __CUDACC__
  asm volatile("barrier.arrive %0, %1;" ::"r"(1 + half), "n"(kThreads) : "memory");
#else
  __syncthreads();
#endif
}
/// Waits until the other half has called arrive(). Each half does so behind an arrive() of its own.
template <int kThreads>
__device__ inline void wait_for_other([[maybe_unused]] int half) {
#ifdef __CUDACC__
  asm volatile("barrier.sync %0, %1;" ::"r"(2 - half), "n"(kThreads) : "memory");
#endif
}

/// Has the second-level cache fetch the 128 bytes around `from`.
__device__ inline void prefetch([[maybe_unused]] const void* from) {
#ifdef __CUDACC__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
#endif
}

/// Lets a kernel that has been launched early behind this one begin.
__device__ inline void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
/// Waits until the kernel in front on the stream has ended and all that it writes is there. A
/// kernel that is launched early calls it before it reads or overwrites anything of that one's.
__device__ inline void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// kernel<<<blocks, threads, shared, stream>>>(args...). Returns what the launch says: an error of
/// the kernel itself shows at a later call, as always with CUDA. `early`, on GPUs of compute
/// capability 9.0 alone: before the kernel in front on the stream has ended (await_previous()).
template <class... P, class... Args>
cudaError_t launch([[maybe_unused]] bool early, void (*kernel)(P...), int64_t blocks, int threads,
                   int64_t shared, [[maybe_unused]] cudaStream_t stream, const Args&... args) {
  if (blocks == 0) return cudaSuccess;
  if (shared > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) return error;
  }
#ifdef __CUDACC__
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = static_cast<unsigned>(blocks);
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
#else
  run_on_host(blocks, threads, [&] { kernel(args...); });
  return cudaGetLastError();
#endif
}
template <class... P, class... Args>
cudaError_t launch(void (*kernel)(P...), int64_t blocks, int threads, int64_t shared,
                   cudaStream_t stream, const Args&... args) {
  return launch(false, kernel, blocks, threads, shared, stream, args...);
}

}  // namespace ribo::kernels
