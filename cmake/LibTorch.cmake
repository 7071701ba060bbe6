# LibTorch from the PyPI wheel of torch as imported targets of our own. The wheel's TorchConfig.cmake
# stops on a machine without a CUDA toolkit and overwrites CMAKE_CUDA_ARCHITECTURES.
#   Torch::cpu   c10 + libtorch_cpu;  Torch::torch  the same, and CUDA's part where it is on.
# Sets RIBO_CUDA_VERSION ("13.0") when CUDA is on.
set(RIBO_LIBTORCH "${CMAKE_CURRENT_LIST_DIR}/../.deps/libtorch-2.11.0" CACHE PATH
    "The site-packages folder that holds torch/ (./ribo-run installs it here)")
cmake_path(ABSOLUTE_PATH RIBO_LIBTORCH NORMALIZE)
set(torch_root ${RIBO_LIBTORCH}/torch)
set(version_header ${torch_root}/include/torch/headeronly/version.h)
if(NOT EXISTS ${version_header})
  message(FATAL_ERROR "LibTorch is not at ${RIBO_LIBTORCH}. Run ./ribo-run, which installs it, or "
                      "give -DRIBO_LIBTORCH=<site-packages> of a Python with torch 2.11.0.")
endif()
file(STRINGS ${version_header} lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9]+" "." torch_version "${lines}")
string(REGEX REPLACE "^\\." "" torch_version "${torch_version}")
if(NOT torch_version VERSION_EQUAL 2.11.0)
  message(FATAL_ERROR "LibTorch 2.11.0 is needed; ${torch_root} holds ${torch_version}.")
endif()

set(RIBO_CUDA_VERSION "")
if(NOT RIBO_CUDA STREQUAL OFF)
  find_package(CUDAToolkit 13 QUIET)
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND EXISTS ${RIBO_LIBTORCH}/nvidia/cudnn)
    set(RIBO_CUDA_VERSION ${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR})
  elseif(RIBO_CUDA STREQUAL ON)
    message(FATAL_ERROR "RIBO_CUDA=ON needs nvcc of a CUDA toolkit 13 and the wheel's CUDA libraries.")
  endif()
endif()
message(STATUS "LibTorch ${torch_version} at ${torch_root}, CUDA: ${RIBO_CUDA_VERSION}")

add_library(Torch::cpu INTERFACE IMPORTED)
target_include_directories(Torch::cpu SYSTEM INTERFACE
  ${torch_root}/include ${torch_root}/include/torch/csrc/api/include)
target_link_directories(Torch::cpu INTERFACE ${torch_root}/lib)
# Not libtorch.so: in this wheel it is an empty library that needs libtorch_cuda and all of CUDA.
target_link_libraries(Torch::cpu INTERFACE c10 torch_cpu)
# The wheel finds its CUDA runtime through its own RPATH, which the linker does not follow.
target_link_options(Torch::cpu INTERFACE -Wl,--allow-shlib-undefined)
target_compile_definitions(Torch::cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)

# The OpenMP runtime that the wheel ships, for our own parallel regions.
add_library(Torch::gomp UNKNOWN IMPORTED)
set_target_properties(Torch::gomp PROPERTIES IMPORTED_LOCATION ${torch_root}/lib/libgomp.so.1)

add_library(Torch::torch INTERFACE IMPORTED)
target_link_libraries(Torch::torch INTERFACE Torch::cpu)
if(RIBO_CUDA_VERSION)
  target_compile_definitions(Torch::torch INTERFACE RIBO_CUDA_VERSION=${RIBO_CUDA_VERSION})
  # Nothing refers to libtorch_cuda by symbol; loading it registers the CUDA kernels.
  target_link_libraries(Torch::torch INTERFACE
    -Wl,--push-state,--no-as-needed c10_cuda torch_cuda -Wl,--pop-state)
endif()

# An installed Ribo uses LibTorch where it was found.
list(APPEND CMAKE_INSTALL_RPATH ${torch_root}/lib)
