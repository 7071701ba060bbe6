#include "cli/stoppable.h"

#include <csignal>

#include "predict/prediction_file.h"
#include "ribo/log.h"
#include "train/signals.h"

namespace ribo::cli {
namespace {

struct Interrupted {};

}  // namespace

void stop_if_asked() {
  if (stop_requested()) throw Interrupted();
}

int write_stoppable(const std::string& out, const std::function<void(const Sink&)>& writer) {
  install_verb_signals();
  try {
    write_output(out, writer);
  } catch (const Interrupted&) {
    log::info(cat("stopped", out == "-" ? "" : cat("; ", out, " was not written")));
    return 128 + stop_signal();
  } catch (const ClosedPipe&) {
    return 128 + SIGPIPE;  // what a program that knows nothing of signals ends with
  }
  return 0;
}

}  // namespace ribo::cli
