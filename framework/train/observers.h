// What listens to a run: the terminal, the log, metrics.jsonl and TensorBoard. On several ranks
// only the first one needs them. None is thread-safe: one thread tells the events.
#pragma once

#include <filesystem>
#include <memory>

#include "ribo/error.h"
#include "train/events.h"

namespace ribo {

/// Draws the state of the run on `fd`: on a terminal a single line, redrawn at most 10 times a
/// second, which steps aside for lines of ribo::log and is cleared in the end; elsewhere a plain
/// line about every 10 s and at the end of each epoch. When nobody can read it any more (EIO,
/// EPIPE) it stops without a word; SIGPIPE must be ignored for that. The last one made draws on the
/// terminal.
///
/// Each validation goes through log::info (so to run.log, too) as one aligned line, with the
/// trivial predictors' scores beside the model's:
///   update 400  epoch 2.0  loss 0.1931  valid mae 0.2431  (mean 0.2861, 3-mer median 0.2550)  *
///   best
RIBO_API std::shared_ptr<Observer> make_progress_bar(int fd = 2);

/// Appends one JSON object a line, named by "event": start, update, validation, checkpoint or
/// finish, with the fields of the structs in events.h; NaN and infinity are null. Lines appear
/// within a second, all but updates at once. RunStarted first drops what `path` holds beyond its
/// resumed_at, and a torn last line. Throws Error if the file cannot be opened or rewritten; a
/// later failure is a warning.
RIBO_API std::shared_ptr<Observer> make_metrics_jsonl(const std::filesystem::path& path);

/// Writes `folder`/events.out.tfevents.<time>.<host> for TensorBoard, a new file for each session:
/// train/loss, train/grad_norm, train/learning_rate, valid/loss, valid/<metric> and, constant lines
/// to compare with, "valid/<metric> floor: <name>". A resumed session makes TensorBoard drop the
/// steps of earlier files beyond resumed_at. Throws Error if the file cannot be opened; a later
/// failure is a warning.
RIBO_API std::shared_ptr<Observer> make_tensorboard(const std::filesystem::path& folder);

}  // namespace ribo
