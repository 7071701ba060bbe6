// A run directory without a training: the files that a run leaves, with random weights.
#pragma once

#include <filesystem>
#include <string>

#include "ribo/files.h"
#include "train/session.h"
#include "train/stream_specs.h"

namespace ribo::testing {

/// The streams of a data source that measured 2A3 and DMS.
inline std::vector<StreamSpec> reactivity_streams() {
  return {{"tokens", {dim::length}, at::kLong, kPadToken, {}},
          {"target.reactivity", {dim::length, 2}, at::kFloat, NAN, {"2a3", "dms"}}};
}

/// A pipeline whose data no longer exists. `blocks` stand between the embedding and the head.
inline std::string pipeline_with(const std::string& blocks, int64_t seed = 1) {
  return cat("name: tiny\nseed: ", seed,
             "\ndata: {type: ribonanza, train: [gone.csv], valid: [gone.csv]}\n"
             "model:\n  streams: {single: 8}\n  blocks:\n    - {type: embedding}\n",
             blocks,
             "    - {type: reactivity_head}\n"
             "loss: {type: mae}\nmetrics: [{type: mae}]\n"
             "train: {duration: 1u, optimizer: {type: adamw}, schedule: {type: constant}}\n");
}

/// Writes the run's pipeline, streams and one checkpoint, `best` and `last`, into `directory`.
inline void write_run(const std::filesystem::path& directory, const std::string& pipeline,
                      const std::vector<StreamSpec>& specs = reactivity_streams()) {
  std::filesystem::create_directories(directory);
  write_file_atomically(directory / "pipeline.yaml", pipeline);
  write_stream_specs(directory / "streams.json", specs);
  Session session({(directory / "pipeline.yaml").string(), {}, {}});
  session.assume(specs);
  save_checkpoint(directory / "checkpoints", {{}, named_weights(*session.build_model()), {}}, true);
}

}  // namespace ribo::testing
