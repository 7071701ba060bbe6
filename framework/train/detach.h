// Starting a run that goes on after its terminal is gone.
#pragma once

#include <string>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// Starts this very program again in a session of its own, with `argv` (argv[0] included), the
/// environment and working directory of now, an empty stdin, and stdout and stderr appended to
/// `log_path`. No other open file is handed on. Returns the process id. Throws Error, also when the
/// new process cannot execute.
RIBO_API int detach(const std::vector<std::string>& argv, const std::string& log_path);

}  // namespace ribo
