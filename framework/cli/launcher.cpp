// The program itself: sets what must be in the environment before LibTorch's OpenMP starts, then
// loads the rest. (libgomp reads its environment while it is loaded.)
#include <dlfcn.h>
#include <malloc.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  // By default libgomp's threads spin for milliseconds at the end of each parallel region, which
  // makes a training many times as slow when another process holds a core
  // (docs/decisions/openmp-waiting.md).
  if (!std::getenv("GOMP_SPINCOUNT")) setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
  // LibTorch then asks for huge pages for tensors of 2 MiB and more: a fresh one costs a page fault a
  // 2 MiB instead of 512, a third of the time of a memory-bound kernel (docs/kernels.md).
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  // Each update asks for the same memory again. By default glibc returns large blocks to the system,
  // which clears them anew: a quarter of the time of a small model with a pair track.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);

  // Found through this program's own RUNPATH.
  void* library = dlopen("libribo_cli.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    std::fprintf(stderr, "error: ribo-run cannot load its libraries: %s\n", dlerror());
    return 3;
  }
  const auto run = reinterpret_cast<int (*)(int, char**)>(dlsym(library, "ribo_main"));
  return run ? run(argc, argv) : 3;
}
