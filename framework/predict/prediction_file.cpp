#include "predict/prediction_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "config/text.h"
#include "ribo/log.h"
#include "train/safetensors_header.h"

namespace ribo {
namespace {

using Sequences = std::vector<InputSequence>;
using Targets = std::vector<std::string>;

const std::map<std::string, PredictionFormat> kFormats = {
    {"plain", PredictionFormat::plain},
    {"ribonanza", PredictionFormat::ribonanza},
    {"openvaccine", PredictionFormat::openvaccine},
    {"safetensors", PredictionFormat::safetensors}};

void append(std::string& out, int64_t number) { out += std::to_string(number); }

// As few digits as give the same float back.
void append(std::string& out, float number) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

// RFC 4180.
std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string out = "\"";
  for (const char c : field) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

// The target's column in the predictions, or -1.
int column_of(const Targets& targets, const std::string& name) {
  const auto it = std::find(targets.begin(), targets.end(), name);
  return it == targets.end() ? -1 : static_cast<int>(it - targets.begin());
}

class Plain final : public PredictionFile {
 public:
  Plain(Targets targets, const Sequences& sequences)
      : targets_(std::move(targets)), sequences_(sequences) {}

  std::string begin() const override {
    std::string out = "id,position,base";
    for (const std::string& target : targets_) out += "," + quoted(target);
    return out + "\n";
  }
  std::string add(size_t i, std::span<const float> values) override {
    const InputSequence& sequence = sequences_[i];
    const std::string id = quoted(sequence.id);
    std::string out;
    auto value = values.begin();
    for (size_t p = 0; p < sequence.letters.size(); ++p) {
      out += id;
      out += ',';
      append(out, static_cast<int64_t>(p + 1));
      out += ',';
      out += sequence.letters[p];
      for (size_t t = 0; t < targets_.size(); ++t) {
        out += ',';
        append(out, *value++);
      }
      out += '\n';
    }
    return out;
  }

 private:
  const Targets targets_;
  const Sequences& sequences_;
};

// The two submissions: a row's name, then fixed columns.
class Submission : public PredictionFile {
 public:
  Submission(std::string head, const Targets& columns, const Targets& targets)
      : head_(std::move(head)), width_(targets.size()) {
    for (const std::string& column : columns) columns_.push_back(column_of(targets, column));
  }
  std::string begin() const override { return head_ + "\n"; }

 protected:
  void add_values(std::string& out, std::span<const float> values, size_t position) const {
    for (const int column : columns_) {
      out += ',';
      if (column < 0) {
        out += '0';
      } else {
        append(out, values[position * width_ + static_cast<size_t>(column)]);
      }
    }
    out += '\n';
  }

 private:
  const std::string head_;
  const size_t width_;
  std::vector<int> columns_;
};

class Ribonanza final : public Submission {
 public:
  Ribonanza(const Targets& targets, const Sequences& sequences)
      : Submission("id,reactivity_DMS_MaP,reactivity_2A3_MaP", {"dms", "2a3"}, targets),
        sequences_(sequences) {
    if (column_of(targets, "dms") < 0 || column_of(targets, "2a3") < 0) {
      throw ConfigError(cat("the format ribonanza needs the targets dms and 2a3; this model predicts ",
                            join(targets), "; choose another format with --format-out"));
    }
  }
  std::string add(size_t i, std::span<const float> values) override {
    const InputSequence& sequence = sequences_[i];
    if (sequence.first_row >= 0) row_ = sequence.first_row;
    std::string out;
    for (size_t p = 0; p < sequence.letters.size(); ++p) {
      append(out, row_++);
      add_values(out, values, p);
    }
    return out;
  }

 private:
  const Sequences& sequences_;
  int64_t row_ = 0;
};

const Targets kOpenVaccine = {"reactivity", "deg_Mg_pH10", "deg_pH10", "deg_Mg_50C", "deg_50C"};

class OpenVaccine final : public Submission {
 public:
  OpenVaccine(const Targets& targets, const Sequences& sequences)
      : Submission("id_seqpos," + join(kOpenVaccine, ","), kOpenVaccine, targets),
        sequences_(sequences) {
    Targets absent;
    for (const std::string& column : kOpenVaccine) {
      if (column_of(targets, column) < 0) absent.push_back(column);
    }
    if (absent.size() == kOpenVaccine.size()) {
      throw ConfigError(cat("the format openvaccine needs one of ", join(kOpenVaccine),
                            "; this model predicts ", join(targets),
                            "; choose another format with --format-out"));
    }
    if (!absent.empty()) log::warn(cat("0 stands for what is not predicted: ", join(absent)));
  }
  std::string add(size_t i, std::span<const float> values) override {
    const InputSequence& sequence = sequences_[i];
    std::string out;
    for (size_t p = 0; p < sequence.letters.size(); ++p) {
      out += quoted(cat(sequence.id, "_", p));
      add_values(out, values, p);
    }
    return out;
  }

 private:
  const Sequences& sequences_;
};

class Safetensors final : public PredictionFile {
 public:
  Safetensors(const Targets& targets, const Sequences& sequences) {
    SafetensorsHeader header;
    header.metadata = {{"targets", join(targets, ",")}};
    uint64_t end = 0;
    for (const InputSequence& sequence : sequences) {
      const uint64_t begin = end;
      end += sequence.letters.size() * targets.size() * sizeof(float);
      header.entries.push_back({sequence.id,
                                "F32",
                                {static_cast<int64_t>(sequence.letters.size()),
                                 static_cast<int64_t>(targets.size())},
                                begin,
                                end});
    }
    json_ = safetensors_header_json(header);
  }
  std::string begin() const override {
    const uint64_t size = json_.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + json_;
  }
  std::string add(size_t, std::span<const float> values) override {
    return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
  }

 private:
  std::string json_;
};

// Writes straight to what cannot be renamed into place.
void stream_to(int fd, const std::string& name, const std::function<void(const Sink&)>& writer) {
  const auto fail = [&](int error) {
    const std::string text = cat("cannot write ", name, ": ", std::strerror(error));
    if (error == EPIPE) throw ClosedPipe(text);
    throw Error(text);
  };
  if (fd < 0) fail(errno);
  writer([&](std::string_view piece) {
    while (!piece.empty()) {
      const ssize_t n = ::write(fd, piece.data(), piece.size());
      if (n < 0 && errno != EINTR) fail(errno);
      if (n > 0) piece.remove_prefix(static_cast<size_t>(n));
    }
  });
}

}  // namespace

PredictionFormat prediction_format(const std::string& name, const std::string& path) {
  if (name == "auto") {
    return std::filesystem::path(path).extension() == ".safetensors" ? PredictionFormat::safetensors
                                                                     : PredictionFormat::plain;
  }
  if (const auto it = kFormats.find(name); it != kFormats.end()) return it->second;
  throw ConfigError(cat("there is no output format \"", name,
                        "\"; say auto, plain, ribonanza, openvaccine or safetensors"));
}

PredictionFile::~PredictionFile() = default;

std::unique_ptr<PredictionFile> make_prediction_file(PredictionFormat format, Targets targets,
                                                     const Sequences& sequences) {
  switch (format) {
    case PredictionFormat::ribonanza: return std::make_unique<Ribonanza>(targets, sequences);
    case PredictionFormat::openvaccine: return std::make_unique<OpenVaccine>(targets, sequences);
    case PredictionFormat::safetensors: return std::make_unique<Safetensors>(targets, sequences);
    default: return std::make_unique<Plain>(std::move(targets), sequences);
  }
}

void write_output(const std::string& path, const std::function<void(const Sink&)>& writer) {
  if (path == "-") return stream_to(STDOUT_FILENO, "standard output", writer);
  std::error_code ec;
  const auto status = std::filesystem::status(path, ec);
  if (std::filesystem::is_directory(status)) {
    throw ConfigError(cat(path, " is a folder; name a file in it"));
  }
  if (!std::filesystem::is_other(status)) return write_file_atomically(path, writer);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  stream_to(fd, path, writer);
  if (::close(fd) != 0) throw Error(cat("cannot write ", path, ": ", std::strerror(errno)));
}

}  // namespace ribo
