// The emulated matrix instructions against plain products; all other tests of cuda_on_host that use
// them rest on this.
#include "common/mma.cuh"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/wgmma_products.cu"  // NOLINT

namespace ribo::kernels {
namespace {

template <class T>
struct Matrices {
  std::vector<T> a, b;         // [16, 16] and [16, 8], rows one after the other
  std::vector<float> product;  // [16, 8]
};

template <class T>
Matrices<T> random_matrices() {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> whole(-8, 8);  // exact in every type
  Matrices<T> m{std::vector<T>(256), std::vector<T>(128), std::vector<float>(128)};
  for (T& x : m.a) x = narrow<T>(static_cast<float>(whole(random)));
  for (T& x : m.b) x = narrow<T>(static_cast<float>(whole(random)));
  for (size_t i = 0; i < 128; ++i) {
    for (size_t k = 0; k < 16; ++k) {
      m.product[i] += widen(m.a[i / 8 * 16 + k]) * widen(m.b[k * 8 + i % 8]);
    }
  }
  return m;
}

// A through load_matrix_x4, B through load_matrix_x2_transposed, D as the layout says.
template <class T>
void expect_product() {
  const Matrices<T> m = random_matrices<T>();
  std::vector<float> got(128);
  run_on_host(1, 64, [&] {  // two warps do the same
    T* const shared = shared_memory<T>();
    for (size_t i = threadIdx.x; i < 256; i += blockDim.x) shared[i] = m.a[i];
    for (size_t i = threadIdx.x; i < 128; i += blockDim.x) shared[256 + i] = m.b[i];
    __syncthreads();
    const unsigned lane = threadIdx.x % 32;
    uint32_t a[4], b[2];
    load_matrix_x4(a, shared + lane % 16 * 16 + lane / 16 * 8);
    load_matrix_x2_transposed(b, shared + 256 + lane % 16 * 8);
    float d[4] = {};
    mma_16x8x16<T>(d, a, b);
    for (unsigned i = 0; i < 4; ++i) got[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
  });
  EXPECT_EQ(got, m.product);
}

TEST(MmaOnHost, MultipliesAsTheFragmentsSay) {
  expect_product<__nv_bfloat16>();
  expect_product<__half>();
}

TEST(MmaOnHost, MultipliesTf32) {
  const Matrices<float> m = [] {
    const Matrices<__half> h = random_matrices<__half>();
    Matrices<float> f{{}, {}, std::vector<float>(128)};
    for (const __half x : h.a) f.a.push_back(widen(x));
    for (const __half x : h.b) f.b.push_back(widen(x));
    for (size_t i = 0; i < 128; ++i) {
      for (size_t k = 0; k < 8; ++k) f.product[i] += f.a[i / 8 * 16 + k] * f.b[k * 8 + i % 8];
    }
    return f;
  }();
  std::vector<float> got(128);
  run_on_host(1, 32, [&] {
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    const auto bits = [](float x) {
      uint32_t u;
      std::memcpy(&u, &x, 4);
      return u;
    };
    const uint32_t a[4] = {bits(m.a[g * 16 + t]), bits(m.a[(g + 8) * 16 + t]),
                           bits(m.a[g * 16 + t + 4]), bits(m.a[(g + 8) * 16 + t + 4])};
    const uint32_t b[2] = {bits(m.b[t * 8 + g]), bits(m.b[(t + 4) * 8 + g])};
    float d[4] = {};
    mma_16x8x8_tf32(d, a, b);
    for (unsigned i = 0; i < 4; ++i) got[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
  });
  EXPECT_EQ(got, m.product);
}

TEST(MmaOnHost, WarpgroupsMultiplyInEveryForm) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> whole(-8, 8);
  std::vector<__half> a(64 * 64), b(64 * 64);
  for (__half& x : a) x = narrow<__half>(static_cast<float>(whole(random)));
  for (__half& x : b) x = narrow<__half>(static_cast<float>(whole(random)));
  for (const WgmmaForm form : {WgmmaForm::registers_along, WgmmaForm::registers_across,
                               WgmmaForm::along_along, WgmmaForm::across_across}) {
    const bool a_across = form == WgmmaForm::across_across;
    const bool b_across = a_across || form == WgmmaForm::registers_across;
    std::vector<float> got(64 * 64), want(64 * 64);
    for (size_t i = 0; i < 64 * 64; ++i) {
      const size_t m = i / 64, n = i % 64;
      for (size_t k = 0; k < 64; ++k) {
        want[i] += widen(a[a_across ? 64 * k + m : 64 * m + k]) *
                   widen(b[b_across ? 64 * k + n : 64 * n + k]);
      }
    }
    EXPECT_EQ(wgmma_product(true, form, a.data(), b.data(), got.data(), nullptr), cudaSuccess);
    EXPECT_EQ(got, want) << static_cast<int>(form);
  }
}

TEST(MmaOnHost, PacksTwoValues) {
  float low = 0, high = 0;
  unpack<__nv_bfloat16>(pack<__nv_bfloat16>(1.5f, -3.0f), low, high);
  EXPECT_EQ(low, 1.5f);
  EXPECT_EQ(high, -3.0f);
  unpack<__half>(pack<__half>(0.25f, 7.0f), low, high);
  EXPECT_EQ(low, 0.25f);
  EXPECT_EQ(high, 7.0f);
}

}  // namespace
}  // namespace ribo::kernels
