// Stands in for CUDA's header where a test runs CUDA kernels on the CPU: a block's threads are
// fibers, which take turns from one barrier to the next. Finds wrong arithmetic, indices and
// missing barriers without a GPU; knows nothing of a GPU's memory model or speed.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __shared__
#define __launch_bounds__(...)

struct Index {
  unsigned x;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
namespace ribo::kernels {
// What shared_memory() of cuda.cuh declares.
alignas(1024) inline uint4 shared_bytes[256 * 1024 / sizeof(uint4)];
}  // namespace ribo::kernels

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float a, float b) { return a / b; }
using std::max;
using std::min;

namespace cuda_on_host {

enum class Stop { none, block, warp, end };

struct Copy {
  void* to;
  const void* from;
  size_t size, zeros;
};

struct Fiber {
  static constexpr size_t kStack = 64 * 1024;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  Stop stop = Stop::none;
  // What a warp's exchange gives away; two, as the fastest is one ahead.
  alignas(16) unsigned char exchange[2][64];
  int exchanges = 0;
  std::vector<Copy> copies;
};
inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline const std::function<void()>* body;

inline void wait(Stop stop) {
  Fiber& self = fibers[threadIdx.x];
  self.stop = stop;
  swapcontext(&self.context, &scheduler);
}

inline void run_thread() {
  (*body)();
  fibers[threadIdx.x].stop = Stop::end;
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::wait(cuda_on_host::Stop::block); }

namespace cuda_on_host {

/// What another lane of the warp gave at the same exchange().
template <class T>
struct Given {
  int turn;
  T operator()(int lane) const {
    T value;
    std::memcpy(&value, fibers[threadIdx.x / 32 * 32 + static_cast<unsigned>(lane)].exchange[turn],
                sizeof value);
    return value;
  }
};

/// All lanes of a warp meet and give a value each. Read before the next exchange but one.
template <class T>
Given<T> exchange(const T& value) {
  static_assert(sizeof(T) <= sizeof Fiber::exchange[0]);
  const int turn = fibers[threadIdx.x].exchanges++ % 2;
  std::memcpy(fibers[threadIdx.x].exchange[turn], &value, sizeof value);
  wait(Stop::warp);
  return {turn};
}

/// PTX's barrier.arrive and barrier.sync of some of a block's warps.
struct Barrier {
  int arrived = 0, generation = 0;
};
inline Barrier barriers[16];

inline void barrier_arrive(int barrier, int threads) {
  Barrier& b = barriers[barrier];
  if (++b.arrived < threads) return;
  b.arrived = 0;
  ++b.generation;
}
inline void barrier_sync(int barrier, int threads) {
  const int generation = barriers[barrier].generation;
  barrier_arrive(barrier, threads);
  for (int turns = 0; turns == 0 || barriers[barrier].generation == generation; ++turns) {
    if (turns > 1000000) throw std::logic_error("a barrier that others do not reach");
    wait(Stop::warp);
  }
}

}  // namespace cuda_on_host

inline void __syncwarp(unsigned = ~0u) { cuda_on_host::wait(cuda_on_host::Stop::warp); }

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return cuda_on_host::exchange(value)(lane % 32);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_on_host::exchange(value)(static_cast<int>(threadIdx.x % 32) ^ mask);
}

inline unsigned __ballot_sync(unsigned, bool value) {
  const auto warp = cuda_on_host::exchange(value);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(warp(lane)) << lane;
  return bits;
}

#include "cuda_mma.h"

namespace cuda_on_host {
inline bool stopped_at(Stop stop) {
  return std::all_of(fibers.begin(), fibers.end(), [&](const Fiber& f) { return f.stop == stop; });
}
}  // namespace cuda_on_host

/// Runs the kernel `thread` for every thread of every block. Shared memory starts as NaN. All of a
/// block's threads must meet the same block barriers, all lanes the same of their warp. Which
/// thread goes first changes with every turn.
inline void run_on_host(int64_t blocks, int threads, const std::function<void()>& thread) {
  using namespace cuda_on_host;
  body = &thread;
  blockDim.x = static_cast<unsigned>(threads);
  gridDim.x = static_cast<unsigned>(blocks);
  fibers = std::vector<Fiber>(static_cast<size_t>(threads));
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    std::fill(std::begin(barriers), std::end(barriers), Barrier{});
    std::memset(ribo::kernels::shared_bytes, 0xff, sizeof ribo::kernels::shared_bytes);
    for (Fiber& fiber : fibers) {
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = Fiber::kStack;
      fiber.context.uc_link = &scheduler;
      makecontext(&fiber.context, run_thread, 0);
      fiber.stop = Stop::none;
    }
    for (int turn = 0; !stopped_at(Stop::end); ++turn) {
      const bool together = turn == 0 || stopped_at(Stop::block);
      bool moved = false;
      for (int i = 0; i < threads; ++i) {
        threadIdx.x = static_cast<unsigned>(turn % 2 == 0 ? i : threads - 1 - i);
        Fiber& fiber = fibers[threadIdx.x];
        if (!together && fiber.stop != Stop::warp) continue;
        moved = true;
        swapcontext(&scheduler, &fiber.context);
      }
      if (!moved) throw std::logic_error("threads wait at two barriers");
      for (size_t i = 0; i < fibers.size(); ++i) {
        if (fibers[i].stop != fibers[i / 32 * 32].stop) {
          throw std::logic_error("lanes of a warp wait at two barriers");
        }
      }
    }
  }
}
