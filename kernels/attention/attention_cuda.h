// The attention of attention_cpu.h on CUDA's tensor cores. No torch here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda_float.h"

namespace ribo::kernels {

/// A tensor [batch, group, position, head, width] whose channels are adjacent, with the elements
/// from one of each to the next. Data and steps are multiples of 16 bytes.
struct CudaAttentionTensor {
  void* data = nullptr;
  int64_t batch = 0, group = 0, position = 0, head = 0;
};

/// What both directions need. All pointers are device pointers.
struct CudaAttention {
  CudaNarrow type = CudaNarrow::bfloat16;
  int batch = 0, groups = 0, length = 0, heads = 0, width = 0;
  float scale = 1;
  const int64_t* lengths = nullptr;  // [batch], or null: no padding
  int multiprocessors = 1;           // of the GPU
  int64_t shared_memory = 0;         // bytes that a block can have there
  CudaAttentionTensor q = {}, k = {}, v = {};
  /// The bias [batch, heads, length, length], with the elements from one of the first three to the
  /// next; the last is adjacent. Where there are several groups it is arranged (CudaAttentionBias)
  /// and divided by the scale.
  const void* bias = nullptr;
  int64_t bias_steps[3] = {};
  bool wide_bias = false;  // it is float32, otherwise of `type`; arranged, otherwise bfloat16
  /// [batch, heads, length, length] where there is one group, or null: every weight is kept.
  const uint8_t* keep = nullptr;
  float kept = 1;  // factor of a kept weight
  /// [batch, heads, groups, length], base 2: forward writes, backward reads.
  float* log_sum = nullptr;
};

struct CudaAttentionForward : CudaAttention {
  CudaAttentionTensor out = {};  // written as a whole, zeros in the padding
};

struct CudaAttentionBackward : CudaAttention {
  const void* bias_transposed = nullptr;  // [batch, heads, length (keys), length], also arranged
  CudaAttentionTensor out = {}, out_grad = {};  // read
  /// Written as a whole, zeros in the padding.
  CudaAttentionTensor q_grad = {}, k_grad = {}, v_grad = {};
  float* delta = nullptr;       // [batch, heads, groups, length], scratch: minus out_grad times out
  float* q_sums = nullptr;      // [batch, heads, groups, length, width], scratch, where parts > 1
  void* bias_grad = nullptr;    // [batch, heads, length, length], zeros in the padding
  bool wide_bias_grad = false;  // it is float32, otherwise of `type`
  /// [slices, batch, heads, length, cuda_attention_pitch()], scratch where there are several
  /// groups: each slice has a share of them.
  float* bias_sums = nullptr;
  int slices = 1, parts = 1;  // as cuda_attention_plan() sets them
};

/// The arrangement of a bias that many groups read, in the order of a warp's registers. Its
/// transpose is made of an arranged one in the same type.
struct CudaAttentionBias {
  CudaNarrow type = CudaNarrow::bfloat16;
  int batch = 0, heads = 0, length = 0;
  const void* from = nullptr;  // [batch, heads, length, length], or arranged if `transposed`
  int64_t steps[4] = {};       // elements from one b, h, i, j to the next, unless `transposed`
  bool wide_from = false;      // it is float32, otherwise of `type`
  float factor = 1;
  bool transposed = false;
  void* to = nullptr;    // [batch, heads, cuda_attention_arranged()]
  bool wide_to = false;  // it is float32, otherwise bfloat16
};

/// Elements of a head's arranged bias.
int64_t cuda_attention_arranged(int length);
/// Elements of a row of bias_sums: the length, up to a multiple of 64.
int cuda_attention_pitch(int length);

/// Whether the kernels take these sizes.
bool cuda_attention_takes(const CudaAttention& problem);
/// Sets slices and parts.
void cuda_attention_plan(CudaAttentionBackward& problem);

/// Enqueue on the stream; nothing waits. Deterministic: sums have a fixed order, which depends on
/// `multiprocessors`.
cudaError_t cuda_attention_bias(const CudaAttentionBias& problem, cudaStream_t stream);
cudaError_t cuda_attention_forward(const CudaAttentionForward& problem, cudaStream_t stream);
cudaError_t cuda_attention_backward(const CudaAttentionBackward& problem, cudaStream_t stream);

}  // namespace ribo::kernels
