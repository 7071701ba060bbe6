// Reading and writing tensors by name in the safetensors format
// (https://github.com/huggingface/safetensors#format), which Python reads too.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>

#include "ribo/error.h"

namespace ribo {

using Tensors = std::map<std::string, at::Tensor>;
using Metadata = std::map<std::string, std::string>;

/// The type that the format calls `dtype`. Throws Error for one that we don't know.
at::ScalarType scalar_type_of(const std::string& dtype);

/// Reads every tensor into CPU memory, contiguous, and the file's metadata into `metadata` if that
/// is not null. The file may come from anywhere: the header (at most 16 MiB) is checked as a whole
/// (known dtypes, no name twice, the tensors' bytes cover the data without overlap or hole and end
/// where the file does) before memory is taken for any tensor. Throws an Error that names the file
/// and the tensor. A damaged number is not noticed: that is what manifest.json is for.
RIBO_API Tensors read_safetensors(const std::filesystem::path& path, Metadata* metadata = nullptr);

/// Writes tensors of F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL atomically and durably (see
/// write_file_atomically). They may lie on any device and in any layout of strides; gradients are
/// not kept. The data starts at a multiple of 8, larger element types first, so that each tensor is
/// aligned in a mapped file. Throws an Error that names the file and the tensor.
RIBO_API void write_safetensors(const std::filesystem::path& path, const Tensors& tensors,
                                const Metadata& metadata = {});

}  // namespace ribo
