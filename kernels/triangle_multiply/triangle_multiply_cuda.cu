#include <algorithm>

#include "triangle_multiply/triangle_multiply_backward.cuh"
#include "triangle_multiply/triangle_multiply_cuda.h"
#include "triangle_multiply/triangle_multiply_forward.cuh"

namespace ribo::kernels {
namespace {

constexpr int kWidth = 64;  // channels and hidden units that blocks are laid out for

// f(T{}, X{})
template <class F>
auto with_types(const CudaTriangle& a, F&& f) {
  const auto with_x = [&](auto type) { return a.wide ? f(type, float{}) : f(type, type); };
  return a.type == CudaTriangleType::bfloat16 ? with_x(__nv_bfloat16{}) : with_x(__half{});
}

// As many as a device holds at once; each has further tiles then.
int64_t blocks(const CudaTriangle& a, int each) {
  return std::min<int64_t>(int64_t{each} * a.multiprocessors, triangle::tiles(a));
}
int64_t forward_blocks(const CudaTriangle& a) { return blocks(a, triangle::kForwardBlocks); }
int64_t backward_blocks(const CudaTriangle& a) { return blocks(a, triangle::kBackwardBlocks); }

}  // namespace

bool cuda_triangle_takes(const CudaTriangle& a) {
  const auto fits = [](int64_t n) { return n > 0 && n <= kWidth && n % 16 == 0; };
  return fits(a.channels) && fits(a.hidden) &&
         int64_t{a.batch} * a.pitch() * a.pitch() < int64_t{1} << 30;
}

int64_t cuda_triangle_scratch(const CudaTriangle& a) {
  return (backward_blocks(a) + 1) * triangle::Sums(a).size();
}

cudaError_t cuda_triangle_project(const CudaTriangleProject& a, cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    return launch(triangle::project_kernel<T, X, kWidth>, forward_blocks(a), triangle::kThreads,
                  sizeof(triangle::ProjectShared<T, X, kWidth>), stream, a);
  });
}

cudaError_t cuda_triangle_output(const CudaTriangleOutput& a, cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    return launch(triangle::output_kernel<T, X, kWidth>, forward_blocks(a), triangle::kThreads,
                  sizeof(triangle::OutputShared<T, X, kWidth>), stream, a);
  });
}

cudaError_t cuda_triangle_output_backward(const CudaTriangleOutputBackward& a,
                                          cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    return launch(triangle::output_backward_kernel<T, X, kWidth>, backward_blocks(a),
                  triangle::kThreads, sizeof(triangle::OutputBackwardShared<T, X, kWidth>), stream,
                  a);
  });
}

cudaError_t cuda_triangle_project_backward(const CudaTriangleProjectBackward& a,
                                           cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    return launch(triangle::project_backward_kernel<T, X, kWidth>, backward_blocks(a),
                  triangle::kThreads, sizeof(triangle::ProjectBackwardShared<T, X, kWidth>), stream,
                  a);
  });
}

cudaError_t cuda_triangle_gradients(const CudaTriangleGradients& a, cudaStream_t stream) {
  const int64_t blocks = backward_blocks(a), size = triangle::Sums(a).size();
  const cudaError_t error = launch(triangle::add_kernel, (size + 31) / 32, triangle::kThreads,
                                   triangle::kThreads * sizeof(float), stream, a.scratch,
                                   static_cast<int>(blocks), static_cast<int>(size));
  if (error != cudaSuccess) return error;
  return with_types(a, [&](auto type, auto) {
    return launch(triangle::gradients_kernel<decltype(type)>, a.channels, triangle::kThreads,
                  2 * triangle::kWarps * sizeof(float), stream, a,
                  static_cast<const float*>(a.scratch + blocks * size));
  });
}

}  // namespace ribo::kernels
