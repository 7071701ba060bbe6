// Ctrl-C, SLURM's SIGTERM and a closed terminal during a run.
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

/// Whether SIGINT or SIGTERM has come since install_run_signals().
RIBO_API bool stop_requested();

/// The first of them that came (SIGINT or SIGTERM), or 0.
RIBO_API int stop_signal();

}  // namespace ribo
