// The matrix instructions of common/wgmma.cuh on a GPU that has them: what the descriptors of
// shared memory say, which cuda_on_host/ cannot know.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "common/cuda_calls.h"
#include "kernels/wgmma_products.h"
#include "support/gpu.h"

namespace ribo::kernels {
namespace {

class WgmmaCuda : public testing::CudaTest {
 protected:
  void product(WgmmaForm form, bool a_across, bool b_across) {
    if (IsSkipped()) return;
    at::manual_seed(1);
    const at::Tensor a = at::randint(-8, 9, {64, 64}, at::kFloat);
    const at::Tensor b = at::randint(-8, 9, {64, 64}, at::kFloat);
    const at::Tensor want = at::mm(a_across ? a.t() : a, b_across ? b : b.t());
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
      const at::Tensor left = a.to(at::kCUDA, type), right = b.to(at::kCUDA, type);
      if (device_attribute("wgmma", cudaDevAttrComputeCapabilityMajor, left) != 9) {
        GTEST_SKIP() << "skipped: no GPU of compute capability 9.0";
      }
      const at::Tensor d = at::empty({64, 64}, left.options().dtype(at::kFloat));
      expect_success("wgmma", wgmma_product(type == at::kHalf, form, left.const_data_ptr(),
                                            right.const_data_ptr(), d.mutable_data_ptr<float>(),
                                            c10::cuda::getCurrentCUDAStream()));
      const at::Tensor got = d.cpu();
      EXPECT_TRUE(at::equal(got, want))
          << type << ": " << got.ne(want).sum().item<int64_t>() << " of 4096 differ";
    }
  }
};

TEST_F(WgmmaCuda, RegistersTimesRowsAlong) { product(WgmmaForm::registers_along, false, false); }
TEST_F(WgmmaCuda, RegistersTimesRowsAcross) { product(WgmmaForm::registers_across, false, true); }
TEST_F(WgmmaCuda, RowsAlongTimesRowsAlong) { product(WgmmaForm::along_along, false, false); }
TEST_F(WgmmaCuda, RowsAcrossTimesRowsAcross) { product(WgmmaForm::across_across, true, true); }

}  // namespace
}  // namespace ribo::kernels
