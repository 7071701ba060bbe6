// All cores for a kernel, without LibTorch's headers.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace ribo::kernels {

/// A borrowed callable; must not outlive it.
template <class>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT: converts on purpose
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(args...);
        }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// Calls task(i, worker) for every i of 0..tasks-1, on LibTorch's threads (at::get_num_threads();
/// one inside another parallel region). Tasks are handed out as workers become free, so a result
/// must not depend on `worker`, which is below workers() and only picks scratch memory. `task` must
/// not throw.
void parallel(int64_t tasks, FunctionRef<void(int64_t task, int worker)> task);

/// How many workers parallel() has at most.
int workers();

}  // namespace ribo::kernels
