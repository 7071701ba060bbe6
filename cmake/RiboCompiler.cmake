# Flags that every target of the project shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# The precompiled header of torch is valid only for exactly equal options.
add_compile_options(-Wall -Wextra)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options(-Wno-restrict)  # false alarms on std::string's operator+, GCC bug 105329
endif()
if(RIBO_SANITIZE)
  add_compile_options(-fsanitize=${RIBO_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RIBO_SANITIZE})
endif()

# Everything runs from the build tree as it will from the installed one.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR})
set(RIBO_PLUGIN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR}/ribo/plugins)
# An installed Ribo can be moved; it uses LibTorch where it was found.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN;${RIBO_LIBTORCH}/torch/lib")

if(NOT RIBO_SANITIZE)
  # A library that lacks a symbol fails here, not when it is loaded.
  string(APPEND CMAKE_SHARED_LINKER_FLAGS " -Wl,-z,defs")
  string(APPEND CMAKE_MODULE_LINKER_FLAGS " -Wl,-z,defs")
endif()

find_program(RIBO_CCACHE ccache)
if(RIBO_CCACHE)
  # ccache must be told that a precompiled header is part of the input.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${RIBO_CCACHE})
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()
find_program(RIBO_MOLD mold)
if(RIBO_MOLD)
  add_link_options(-B/usr/libexec/mold)
endif()
