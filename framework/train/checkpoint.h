// Checkpoints: everything a run needs to go on as if it had never stopped.
//
//   checkpoints/step-00000400/
//     model.safetensors     the weights to predict with (averaged ones where EMA is on)
//     training.safetensors  weights being trained, optimizer, random number generators
//     training.json         TrainerState
//     manifest.json         sizes and SHA-256 of the files above
//   checkpoints/last, checkpoints/best   links to two of those folders
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/safetensors.h"

namespace ribo {

struct TrainerState {
  int64_t update = 0;  // updates done
  int64_t epoch = 0;   // the epoch in progress
  int64_t batch = 0;   // its batches already used
  double seconds = 0;  // of training so far
  double best_value = 0;
  int64_t best_update = -1;  // -1: no validation yet
  int64_t validated_update = -1;  // the last one that was validated
  int64_t validations_without_better = 0;
  int64_t skipped_updates = 0;
};

struct Checkpoint {
  TrainerState state;
  Tensors model;
  Tensors training;
};

/// Writes `<folder>/step-<update>`, whole or not at all, and points `last` (and `best`) at it; then
/// removes the folders that neither names. Returns its path. Throws Error.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder,
                                      const Checkpoint& checkpoint, bool best);

/// Reads a checkpoint folder after checking its manifest. Throws Error.
Checkpoint load_checkpoint(const std::filesystem::path& path);
/// The same, of the weights to predict with alone.
Tensors load_checkpoint_model(const std::filesystem::path& path);

}  // namespace ribo
