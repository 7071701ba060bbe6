// Verbs that Ctrl-C ends without a half-written file.
#pragma once

#include <functional>
#include <string>

#include "ribo/files.h"

namespace ribo::cli {

/// Ends the writer of write_stoppable() where a stop was asked for.
void stop_if_asked();

/// write_output() from which stop_if_asked() and a closed pipe return: the exit status, 0 where
/// everything was written. Throws Error.
int write_stoppable(const std::string& out, const std::function<void(const Sink&)>& writer);

}  // namespace ribo::cli
