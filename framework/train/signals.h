// Ctrl-C, SLURM's SIGTERM and a closed terminal.
#pragma once

#include "ribo/error.h"

namespace ribo {

/// From now on SIGINT and SIGTERM only set a flag, which the trainer reads after each update. A
/// SIGINT that comes a second or more after the first one ends the process at once (status 130 in
/// the shell); until then it is the same request, since some senders signal a process and then its
/// group. SIGHUP and SIGPIPE are ignored: a run outlives its terminal. A SIGINT that was ignored at
/// the start (a background job of a script) stays ignored. Calling it again changes nothing. Throws
/// Error if the system refuses.
RIBO_API void install_run_signals();

/// The same for a verb that answers and ends: SIGHUP asks it to stop as well (unless it was ignored,
/// as under nohup), so that it can tidy up. A closed pipe is an error of the write to it.
RIBO_API void install_verb_signals();

/// Whether one of these signals has come since they were installed.
RIBO_API bool stop_requested();

/// The first of them that came, or 0.
RIBO_API int stop_signal();

}  // namespace ribo
