// The program itself: sets what must be in the environment before LibTorch's OpenMP starts, then
// loads the rest. (libgomp reads its environment while it is loaded.)
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "core/keep_memory.h"

int main(int argc, char** argv) {
  // By default libgomp's threads spin for milliseconds at the end of each parallel region, which
  // makes a training many times as slow when another process holds a core. Now they spin for about
  // as long as it takes to wake one that sleeps (docs/decisions/openmp-waiting.md).
  if (!std::getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "2000", 0);
  ribo::keep_memory();

  // Found through this program's own RUNPATH.
  void* library = dlopen("libribo_cli.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    std::fprintf(stderr, "error: ribo-run cannot load its libraries: %s\n", dlerror());
    return 3;
  }
  const auto run = reinterpret_cast<int (*)(int, char**)>(dlsym(library, "ribo_main"));
  return run ? run(argc, argv) : 3;
}
