// Predictions as files that others read.
//
//   plain        id,position,base,<a column each target>      position from 1
//   ribonanza    id,reactivity_DMS_MaP,reactivity_2A3_MaP     Kaggle Ribonanza's submission: `id` is
//                the row's number, from the input's id_min or else counted over all positions
//   openvaccine  id_seqpos,reactivity,deg_Mg_pH10,deg_pH10,deg_Mg_50C,deg_50C   Kaggle OpenVaccine's
//                submission: position from 0; a column that the model does not predict is 0
//   safetensors  a float32 tensor [L, T] for each id; metadata `targets` = names, comma-separated
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "predict/sequences.h"
#include "ribo/files.h"

namespace ribo {

enum class PredictionFormat { plain, ribonanza, openvaccine, safetensors };

/// The format called `name`; "auto" goes by the extension of `path`: .safetensors is that, anything
/// else plain. Throws ConfigError.
PredictionFormat prediction_format(const std::string& name, const std::string& path);

class PredictionFile {
 public:
  virtual ~PredictionFile();
  /// What stands in front of the first sequence.
  virtual std::string begin() const = 0;
  /// Sequence i of the input, each once and in order; `values` are [L, targets].
  virtual std::string add(size_t i, std::span<const float> values) = 0;
};

/// `sequences` are the whole input, which must outlive the result. Throws ConfigError when the
/// format needs targets that the model has not.
std::unique_ptr<PredictionFile> make_prediction_file(PredictionFormat format,
                                                     std::vector<std::string> targets,
                                                     const std::vector<InputSequence>& sequences);

/// Nobody reads the pipe any more (EPIPE): `| head` has seen enough.
class ClosedPipe : public Error {
 public:
  using Error::Error;
};

/// Hands `writer` a sink to `path`: a file as write_file_atomically() does, or directly to standard
/// output ("-"), a pipe or a device. Throws Error, and ClosedPipe where SIGPIPE is ignored.
void write_output(const std::string& path, const std::function<void(const Sink&)>& writer);

}  // namespace ribo
