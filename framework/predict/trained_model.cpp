#include "predict/trained_model.h"

#include "model/flip.h"
#include "train/checkpoint.h"
#include "train/precision.h"
#include "train/stream_specs.h"

namespace ribo {
namespace fs = std::filesystem;
namespace {

struct Place {
  fs::path run, checkpoint;
};

bool is_run(const fs::path& path) { return fs::exists(path / "pipeline.yaml"); }

// Resolves links, for `best` and `last` move while a run goes on.
fs::path resolved(const fs::path& path) {
  std::error_code ec;
  const fs::path real = fs::canonical(path, ec);
  if (ec) throw Error(cat("cannot read ", path.string(), ": ", ec.message()));
  return real;
}

Place find_trained(const fs::path& path) {
  std::error_code ec;
  if (!fs::exists(path, ec)) {
    throw ConfigError(cat(path.string(), ": there is no such run or checkpoint; give a run's "
                          "directory such as runs/<name>/<time>, or a folder in its checkpoints/"));
  }
  if (is_run(path)) {
    for (const char* name : {"best", "last"}) {
      const fs::path checkpoint = path / "checkpoints" / name;
      if (fs::exists(checkpoint)) return {resolved(path), resolved(checkpoint)};
    }
    throw Error(cat(path.string(), ": this run has no checkpoint yet; it writes its first one at a "
                    "validation or when it ends"));
  }
  const fs::path real = resolved(path);
  if (!fs::exists(real / "model.safetensors")) {
    throw ConfigError(cat(path.string(), ": neither a run (it has no pipeline.yaml) nor a checkpoint "
                          "(it has no model.safetensors); give a run's directory, or a folder in "
                          "its checkpoints/"));
  }
  const fs::path run = real.parent_path().parent_path();
  if (!is_run(run)) {
    throw ConfigError(cat(path.string(), ": this checkpoint lies outside of a run, whose "
                          "pipeline.yaml says what the model is; put it back into "
                          "<run>/checkpoints/"));
  }
  return {run, real};
}

}  // namespace

bool TrainedModel::flips(std::optional<bool> flip) const {
  return flip.value_or(session->options().flip_average);
}

void TrainedModel::predict(Streams& streams, std::optional<bool> flip) const {
  const at::Device device = session->device();
  streams = to_device(streams, device);
  const AutocastScope autocast(device.type(), session->options().precision);
  flips(flip) ? forward_both_ways(*model, streams) : model->forward(streams);
}

TrainedModel load_trained(const TrainedModelRequest& request) {
  const auto [run, checkpoint] = find_trained(request.path);
  TrainedModel out{run, checkpoint, nullptr, nullptr};
  out.session = std::make_unique<Session>(
      SessionRequest{(run / "pipeline.yaml").string(), request.sets, request.plugin_path,
                     request.evaluated});
  if (request.evaluated) {
    out.session->open();
  } else {
    out.session->assume(read_stream_specs(run / "streams.json"));
  }
  const Tensors weights = load_checkpoint_model(checkpoint);
  out.model = out.session->build_model();
  try {
    load_weights(*out.model, weights);
  } catch (const Error& e) {
    throw Error(cat(checkpoint.string(), ": ", e.what()));
  }
  out.model->eval();
  return out;
}

}  // namespace ribo
