# LibTorch from the PyPI wheel of torch as imported targets of our own, for the build and for those who
# use an installed Ribo. The wheel's TorchConfig.cmake stops on a machine without a CUDA toolkit and
# overwrites CMAKE_CUDA_ARCHITECTURES.
#   Torch::cpu   c10 + libtorch_cpu;  Torch::torch  the same, and CUDA's part where it is on.
# Takes RIBO_LIBTORCH, the site-packages folder that holds torch/, and RIBO_CUDA_VERSION.
include_guard(DIRECTORY)
block()
set(root ${RIBO_LIBTORCH}/torch)
set(version_header ${root}/include/torch/headeronly/version.h)
if(NOT EXISTS ${version_header})
  message(FATAL_ERROR "LibTorch is not at ${RIBO_LIBTORCH}. Give -DRIBO_LIBTORCH=<site-packages> of "
                      "a Python with torch 2.11.0, or run ./ribo-run in Ribo's sources, which "
                      "installs it in .deps/.")
endif()
file(STRINGS ${version_header} lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9]+" "." version "${lines}")
string(REGEX REPLACE "^\\." "" version "${version}")
if(NOT version VERSION_EQUAL 2.11.0)
  message(FATAL_ERROR "LibTorch 2.11.0 is needed; ${root} holds ${version}.")
endif()
message(STATUS "LibTorch ${version} at ${root}, CUDA: ${RIBO_CUDA_VERSION}")

add_library(Torch::cpu INTERFACE IMPORTED)
target_include_directories(Torch::cpu SYSTEM INTERFACE
  ${root}/include ${root}/include/torch/csrc/api/include)
target_link_directories(Torch::cpu INTERFACE ${root}/lib)
# Not libtorch.so: in this wheel it is an empty library that needs libtorch_cuda and all of CUDA.
target_link_libraries(Torch::cpu INTERFACE c10 torch_cpu)
# The wheel finds its CUDA runtime through its own RPATH, which the linker does not follow.
target_link_options(Torch::cpu INTERFACE -Wl,--allow-shlib-undefined)
target_compile_definitions(Torch::cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)

# The OpenMP runtime that the wheel ships, for our own parallel regions.
add_library(Torch::gomp UNKNOWN IMPORTED)
set_target_properties(Torch::gomp PROPERTIES IMPORTED_LOCATION ${root}/lib/libgomp.so.1)

add_library(Torch::torch INTERFACE IMPORTED)
target_link_libraries(Torch::torch INTERFACE Torch::cpu)
if(RIBO_CUDA_VERSION)
  target_compile_definitions(Torch::torch INTERFACE RIBO_CUDA_VERSION=${RIBO_CUDA_VERSION})
  # Nothing refers to libtorch_cuda by symbol; loading it registers the CUDA kernels.
  target_link_libraries(Torch::torch INTERFACE
    -Wl,--push-state,--no-as-needed c10_cuda torch_cuda -Wl,--pop-state)
endif()
endblock()
