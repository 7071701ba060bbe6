#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "bench/machine_cuda.h"

namespace ribo::kernels::bench {
namespace {

constexpr int kBlock = 256;
constexpr int kChains = 16;  // as many as hide each other's latency

void expect_success(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

class Event {
 public:
  Event() { expect_success(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

__device__ inline int64_t nanoseconds() {
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void idle(int64_t duration) {
  for (const int64_t end = nanoseconds() + duration; nanoseconds() < end;) {
  }
}

__device__ float sink;

template <int64_t count, class Step>
__device__ void repeat(Step step) {
  float x[kChains];
#pragma unroll
  for (int k = 0; k < kChains; ++k) x[k] = 1e-3f * static_cast<float>(threadIdx.x + k);
#pragma unroll 4
  for (int i = 0; i < static_cast<int>(count / kChains); ++i) {
#pragma unroll
    for (int k = 0; k < kChains; ++k) x[k] = step(x[k]);
  }
  float total = 0;
#pragma unroll
  for (int k = 0; k < kChains; ++k) total += x[k];
  if (total < 0) sink = total;  // never: keeps the loop from being left out
}

// Both stay between 0 and 1.
__global__ void exponentials() {
  repeat<kGpuExps>([](float x) { return exp2f(-x); });
}
__global__ void multiply_adds() {
  repeat<kGpuOps>([](float x) { return fmaf(x, 0.5f, 0.25f); });
}

void launch(void (*kernel)()) {
  kernel<<<static_cast<unsigned>(gpu_threads() / kBlock), kBlock>>>();
  expect_success(cudaGetLastError());
}

}  // namespace

double gpu_seconds(const std::function<void()>& enqueue, double& head_start) {
  const Event start, end;
  for (;; head_start *= 2) {
    expect_success(cudaDeviceSynchronize());
    idle<<<1, 1>>>(static_cast<int64_t>(1e9 * head_start));
    expect_success(cudaGetLastError());
    expect_success(cudaEventRecord(start));
    enqueue();
    expect_success(cudaEventRecord(end));
    const bool ahead = cudaEventQuery(start) == cudaErrorNotReady;
    cudaGetLastError();  // CUDA keeps "not ready" as an error
    expect_success(cudaEventSynchronize(end));
    if (!ahead && head_start <= kLongestHeadStart) continue;
    float milliseconds = 0;
    expect_success(cudaEventElapsedTime(&milliseconds, start, end));
    return 1e-3 * milliseconds;
  }
}

int64_t gpu_threads() {
  int device = 0, multiprocessors = 0, threads = 0;
  expect_success(cudaGetDevice(&device));
  expect_success(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  expect_success(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device));
  return int64_t{multiprocessors} * threads;
}

void gpu_exponentials() { launch(exponentials); }
void gpu_multiply_adds() { launch(multiply_adds); }

}  // namespace ribo::kernels::bench
