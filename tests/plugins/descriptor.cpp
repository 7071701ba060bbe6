// A plugin whose descriptor is written by hand, so that one field of it can be foreign. Each TEST_*
// is set by CMakeLists.txt where it is the one under test.
#include <stdexcept>

#include "ribo/abi.h"

#ifndef TEST_STRUCT_SIZE
#define TEST_STRUCT_SIZE sizeof(PluginInfo)
#endif
#ifndef TEST_RIBO_ABI
#define TEST_RIBO_ABI RIBO_ABI
#endif
#ifndef TEST_TORCH_ABI
#define TEST_TORCH_ABI RIBO_TORCH_ABI
#endif
#ifndef TEST_BUILD_TAG
#define TEST_BUILD_TAG RIBO_BUILD_TAG
#endif
#ifndef TEST_NAME
#define TEST_NAME "descriptor"
#endif
#ifndef TEST_SETUP
#define TEST_SETUP static_cast<void>(0)
#endif

extern "C" void ribo_test_symbol_that_nobody_has();

static void setup(ribo::Registrar&) { TEST_SETUP; }

extern "C" __attribute__((visibility("default"))) const PluginInfo ribo_plugin;
const PluginInfo ribo_plugin = {TEST_STRUCT_SIZE, TEST_RIBO_ABI, TEST_TORCH_ABI, TEST_BUILD_TAG,
                                TEST_NAME,        "1.2.3",       "For tests",    &setup};
