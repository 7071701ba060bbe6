#include "common/rows.cuh"
#include "common/wgmma.cuh"
#include "kernels/wgmma_products.h"

namespace ribo::kernels {
namespace {

template <class T, WgmmaForm kForm>
__global__ void __launch_bounds__(128)
    wgmma_product_kernel([[maybe_unused]] const T* a, [[maybe_unused]] const T* b,
                         [[maybe_unused]] float* d) {
#ifdef RIBO_WGMMA
  const SwizzledRows<T> of_a(shared_memory<T>()), of_b(of_a.rows + 64 * 64);
  for (int i = static_cast<int>(threadIdx.x); i < 64 * 64; i += 128) {
    *of_a.at(i / 64, i % 64) = a[i];
    *of_b.at(i / 64, i % 64) = b[i];
  }
  publish_to_wgmma();
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  const int first = static_cast<int>(threadIdx.x / 32 * 16);
  uint32_t registers[4][4];
  for (int step = 0; step < 4; ++step) {
    const int row = first + lane % 16, column = 16 * step + lane / 16 * 8;
    load_matrix_x4(registers[step], of_a.at(row, column));
  }
  Sums64 sums = {};
  begin_wgmma(sums, registers);
  wgmma<false>(sums, registers[0], of_b.along(0, 0));  // what it leaves shall not count
  for (int step = 0; step < 4; ++step) {
    const auto product = [&](const auto& left, const auto& right) {
      if (step == 0) {
        wgmma<false>(sums, left, right);
      } else {
        wgmma(sums, left, right);
      }
    };
    if constexpr (kForm == WgmmaForm::registers_along) {
      product(registers[step], of_b.along(0, 16 * step));
    } else if constexpr (kForm == WgmmaForm::registers_across) {
      product(registers[step], of_b.across(16 * step));
    } else if constexpr (kForm == WgmmaForm::along_along) {
      product(of_a.along(0, 16 * step), of_b.along(0, 16 * step));
    } else {
      product(of_a.across(16 * step), of_b.across(16 * step));
    }
  }
  end_wgmma();
  await_wgmma<0>(sums, registers);
  for (int i = 0; i < 32; ++i) {
    const int row = first + g + i / 2 % 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
    d[row * 64 + column] = sums[i / 4][i % 4];
  }
#endif
}

template <class T>
cudaError_t product(WgmmaForm form, const void* a, const void* b, float* d, cudaStream_t stream) {
  const auto run = [&](auto* kernel) {
    return launch(kernel, 1, 128, int64_t{2 * 64 * 64 * sizeof(T)}, stream,
                  static_cast<const T*>(a), static_cast<const T*>(b), d);
  };
  switch (form) {
    case WgmmaForm::registers_along:
      return run(wgmma_product_kernel<T, WgmmaForm::registers_along>);
    case WgmmaForm::registers_across:
      return run(wgmma_product_kernel<T, WgmmaForm::registers_across>);
    case WgmmaForm::along_along:
      return run(wgmma_product_kernel<T, WgmmaForm::along_along>);
    default:
      return run(wgmma_product_kernel<T, WgmmaForm::across_across>);
  }
}

}  // namespace

cudaError_t wgmma_product(bool float16, WgmmaForm form, const void* a, const void* b, float* d,
                          cudaStream_t stream) {
  return float16 ? product<__half>(form, a, b, d, stream)
                 : product<__nv_bfloat16>(form, a, b, d, stream);
}

}  // namespace ribo::kernels
