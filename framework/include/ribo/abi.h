// The binary contract between the host and a plugin: a POD that is read before any C++ of the
// plugin runs.
#pragma once

#include <torch/version.h>

#include <cstdint>

#include "ribo/version.h"

namespace ribo {
class Registrar;
}

extern "C" struct PluginInfo {
  uint32_t struct_size;   // sizeof(PluginInfo) as the plugin was compiled
  uint32_t ribo_abi;      // RIBO_ABI
  uint64_t torch_abi;     // RIBO_TORCH_ABI: LibTorch's C++ ABI changes with every release
  const char* build_tag;  // RIBO_BUILD_TAG
  const char* name;
  const char* version;
  const char* doc;
  void (*setup)(ribo::Registrar&);
};

// Raised whenever a public header changes in a way that old plugins would not survive.
#define RIBO_ABI 1
#define RIBO_TORCH_ABI (TORCH_VERSION_MAJOR * 1000000ull + TORCH_VERSION_MINOR * 1000ull + TORCH_VERSION_PATCH)

#define RIBO_TEXT_(x) #x
#define RIBO_TEXT(x) RIBO_TEXT_(x)

#if defined(__clang__)
#define RIBO_TAG_COMPILER "clang" RIBO_TEXT(__clang_major__)
#else
#define RIBO_TAG_COMPILER "gcc" RIBO_TEXT(__GNUC__)
#endif
#if defined(__SANITIZE_ADDRESS__)
#define RIBO_TAG_SANITIZER "address"
#elif defined(__SANITIZE_THREAD__)
#define RIBO_TAG_SANITIZER "thread"
#else
#define RIBO_TAG_SANITIZER "none"
#endif
#ifdef RIBO_CUDA_VERSION
#define RIBO_TAG_CUDA RIBO_TEXT(RIBO_CUDA_VERSION)
#else
#define RIBO_TAG_CUDA "none"
#endif

#define RIBO_BUILD_TAG                                                          \
  RIBO_TAG_COMPILER " c++" RIBO_TEXT(__cplusplus) " cxx11abi" RIBO_TEXT(_GLIBCXX_USE_CXX11_ABI) \
  " cuda:" RIBO_TAG_CUDA " sanitizer:" RIBO_TAG_SANITIZER
