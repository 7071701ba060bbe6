// Messages to the terminal and, during a run, to run.log. Thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo::log {

RIBO_API void debug(std::string_view message);
RIBO_API void info(std::string_view message);
RIBO_API void warn(std::string_view message);
RIBO_API void error(std::string_view message);

/// Also appends every later message, with its time, to `path`. Throws Error if it cannot be opened.
RIBO_API void add_file(const std::string& path);

/// Shows debug messages on the terminal (verbose) or warnings and errors only (quiet).
enum class Level { quiet, normal, verbose };
RIBO_API void set_level(Level level);

/// A function called before and after each line on the terminal, so that a progress bar can clear
/// and redraw itself. Null removes it.
RIBO_API void set_terminal_hook(void (*before)(), void (*after)());

}  // namespace ribo::log
