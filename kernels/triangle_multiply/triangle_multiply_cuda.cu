#include <algorithm>

#include "triangle_multiply/triangle_multiply_forward.cuh"
#include "triangle_multiply/triangle_multiply_output_backward.cuh"
#include "triangle_multiply/triangle_multiply_project_backward.cuh"

namespace ribo::kernels {
namespace {

constexpr int kWidth = 64;  // channels and hidden units that blocks are laid out for

// f(T{}, X{})
template <class F>
auto with_types(const CudaTriangle& a, F&& f) {
  const auto with_x = [&](auto type) { return a.wide ? f(type, float{}) : f(type, type); };
  return a.type == CudaNarrow::bfloat16 ? with_x(__nv_bfloat16{}) : with_x(__half{});
}

int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

// As many as a device holds at once; each has further strips or tiles then.
int64_t blocks(const CudaTriangle& a, int of_each, int warps) {
  const int64_t strips = int64_t{a.batch} * (triangle::plane(a) / triangle::kStrip);
  return std::min<int64_t>(int64_t{of_each} * a.multiprocessors, ceil_div(strips, warps));
}
int64_t forward_blocks(const CudaTriangle& a) {
  return blocks(a, triangle::kForwardBlocks, triangle::kWarps);
}

// Of a block of Shared<T, X, kWidth>, as many as there is shared memory for.
template <class Shared>
int fitting(const CudaTriangle& a, int most) {
  while (most > 1 && Shared::size(most) > a.shared_memory) --most;
  return most;
}
template <class T, class X>
using OutputBackwardShared = triangle::OutputBackwardShared<T, X, kWidth>;
template <class T, class X>
using ProjectBackwardShared = triangle::ProjectBackwardShared<T, X, kWidth>;
int output_backward_teams(const CudaTriangle& a) {
  return with_types(a, [&](auto type, auto x) {
    using Shared = OutputBackwardShared<decltype(type), decltype(x)>;
    return fitting<Shared>(a, triangle::kMostTeams);
  });
}
int project_backward_warps(const CudaTriangle& a) {
  return with_types(a, [&](auto type, auto x) {
    using Shared = ProjectBackwardShared<decltype(type), decltype(x)>;
    return fitting<Shared>(a, triangle::kMostPositionWarps);
  });
}

int64_t least_shared_memory(const CudaTriangle& a) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    return std::max<int64_t>({sizeof(triangle::ProjectShared<T, X, kWidth>),
                              sizeof(triangle::OutputShared<T, X, kWidth>),
                              OutputBackwardShared<T, X>::size(1),
                              ProjectBackwardShared<T, X>::size(1)});
  });
}

int64_t output_backward_blocks(const CudaTriangle& a) {
  return blocks(a, 1, output_backward_teams(a));
}
int64_t project_backward_blocks(const CudaTriangle& a) {
  return blocks(a, 1, project_backward_warps(a));
}
int64_t backward_blocks(const CudaTriangle& a) {
  return std::max(output_backward_blocks(a), project_backward_blocks(a));
}

}  // namespace

bool cuda_triangle_takes(const CudaTriangle& a) {
  const auto fits = [](int64_t n) { return n > 0 && n <= kWidth && n % 16 == 0; };
  return fits(a.channels) && fits(a.hidden) &&
         int64_t{a.batch} * a.pitch() * a.pitch() < int64_t{1} << 30 &&
         least_shared_memory(a) <= a.shared_memory;
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
    return launch(a.begins_early, triangle::output_kernel<T, X, kWidth>, forward_blocks(a),
                  triangle::kThreads, sizeof(triangle::OutputShared<T, X, kWidth>), stream, a);
  });
}

cudaError_t cuda_triangle_output_backward(const CudaTriangleOutputBackward& a,
                                          cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    const int teams = output_backward_teams(a);
    return launch(triangle::output_backward_kernel<T, X, kWidth>, output_backward_blocks(a),
                  triangle::kOutputThreads, OutputBackwardShared<T, X>::size(teams), stream, a,
                  teams);
  });
}

cudaError_t cuda_triangle_project_backward(const CudaTriangleProjectBackward& a,
                                           cudaStream_t stream) {
  return with_types(a, [&](auto type, auto x) {
    using T = decltype(type);
    using X = decltype(x);
    const int warps = project_backward_warps(a);
    return launch(a.begins_early, triangle::project_backward_kernel<T, X, kWidth>,
                  project_backward_blocks(a), triangle::kThreads,
                  ProjectBackwardShared<T, X>::size(warps), stream, a, warps);
  });
}

cudaError_t cuda_triangle_gradients(const CudaTriangleGradients& a, cudaStream_t stream) {
  const int64_t blocks = backward_blocks(a), size = triangle::Sums(a).size();
  const cudaError_t error = launch(
      a.begins_early, triangle::add_kernel, (size + 31) / 32, triangle::kThreads,
      triangle::kThreads * sizeof(float), stream, static_cast<const CudaTriangleBackward&>(a),
      static_cast<int>(output_backward_blocks(a)), static_cast<int>(project_backward_blocks(a)),
      static_cast<int>(blocks));
  if (error != cudaSuccess) return error;
  return with_types(a, [&](auto type, auto) {
    return launch(a.begins_early, triangle::gradients_kernel<decltype(type), kWidth>, a.channels,
                  5 * kWidth, 2 * 5 * kWidth / 32 * sizeof(float), stream, a,
                  static_cast<const float*>(a.scratch + blocks * size));
  });
}

}  // namespace ribo::kernels
