// Predicting with trained models from another program, which links with Ribo::ribo:
//
//   #include <ribo/predictor.h>
//   const ribo::Predictor predictor({"runs/mamba_sepcnn/2026-01-31_12-00-00"});
//   const at::Tensor profile = predictor.predict({"GGGAAACCC"})[0];  // [9, targets]
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ribo/error.h"

namespace ribo {

struct PredictorOptions {
  std::vector<std::filesystem::path> plugin_path;  // plugin files or folders besides the built-in
  std::string device = "auto";  // cpu, cuda, cuda:0; auto = a GPU where there is one
  /// Predict the mean over both directions of each sequence; unset = as the run was validated
  /// (train.flip_average).
  std::optional<bool> flip;
  int64_t batch = 64;           // sequences in one batch at most; fewer where they are long
};

class RIBO_API Predictor {
 public:
  /// Reads trained models: run directories (their best checkpoint, else the last) or checkpoint
  /// folders in them. Several make an ensemble, whose prediction is their mean; they must predict
  /// the same targets. Their data may be gone. Throws Error (ribo/error.h) for what is no run, is
  /// damaged or does not fit.
  explicit Predictor(const std::vector<std::filesystem::path>& trained,
                     const PredictorOptions& options = {});
  ~Predictor();
  Predictor(Predictor&&) noexcept;
  Predictor& operator=(Predictor&&) noexcept;

  /// The names of the columns that are predicted.
  const std::vector<std::string>& targets() const;

  /// Told after each batch how many sequences and nucleotides it held; what it throws ends
  /// predict().
  using Progress = std::function<void(int64_t sequences, int64_t nucleotides)>;

  /// A float32 CPU tensor [L, targets] for each sequence, in their order. Letters are A C G U/T N in
  /// either case; a sequence may be longer than any in training. What is predicted for a sequence
  /// does not depend on the others. Throws Error for a letter that is none of them, and for an empty
  /// sequence. One thread at a time.
  std::vector<at::Tensor> predict(const std::vector<std::string>& sequences,
                                  const Progress& progress = {}) const;

 private:
  class Models;
  std::unique_ptr<Models> models_;
};

}  // namespace ribo
