#pragma once

#include <cstddef>
#include <functional>

namespace ribo {

/// Calls task(0) .. task(count - 1), on as many threads as there are cores, of which the caller is
/// one. Indices are handed out in order as threads become free, so a task must write to a place of
/// its own and not depend on the others. Returns when all are done. If tasks throw, the indices
/// that were not started are left out and one of the exceptions is thrown here.
///
/// For tasks of a millisecond and more (folding): the threads are made for the call.
void for_each_index(std::size_t count, const std::function<void(std::size_t)>& task);

}  // namespace ribo
