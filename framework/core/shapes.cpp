#include "ribo/shapes.h"

#include <algorithm>

namespace ribo {

std::string to_string(const Shape& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) out += ", ";
    if (shape[i] == dim::batch) {
      out += "B";
    } else if (shape[i] == dim::length) {
      out += "L";
    } else {
      out += std::to_string(shape[i]);
    }
  }
  return out + "]";
}

const Shapes::Stream& Shapes::find(std::string_view name) const {
  auto it = streams_.find(name);
  if (it != streams_.end()) return it->second;
  std::string have;
  for (const auto& [key, stream] : streams_) {
    have += (have.empty() ? "" : ", ") + key + " " + to_string(stream.shape);
  }
  throw ConfigError(cat("needs the stream \"", name, "\", which nothing before it makes; here are: ",
                        have.empty() ? "none" : have));
}

Shape Shapes::need(std::string_view name, int64_t rank) {
  const Stream& stream = find(name);
  if (static_cast<int64_t>(stream.shape.size()) != rank) {
    throw ConfigError(cat("needs the stream \"", name, "\" with ", rank, " dimensions; here it is ",
                          to_string(stream.shape)));
  }
  if (std::find(needed_.begin(), needed_.end(), name) == needed_.end()) {
    needed_.emplace_back(name);
  }
  return stream.shape;
}

int64_t Shapes::width(std::string_view name) const { return find(name).shape.back(); }

const std::vector<std::string>& Shapes::labels(std::string_view name) const {
  return find(name).labels;
}

void Shapes::produce(std::string name, Shape shape, std::vector<std::string> labels) {
  if (std::find(produced_.begin(), produced_.end(), name) == produced_.end()) {
    produced_.push_back(name);
  }
  streams_[std::move(name)] = {std::move(shape), std::move(labels)};
}

int64_t Shapes::declared(std::string_view name) const {
  auto it = declared_.find(name);
  if (it != declared_.end()) return it->second;
  throw ConfigError(cat("makes the stream \"", name,
                        "\" and needs its width; say it under model.streams, e.g. `streams: {", name,
                        ": 64}`"));
}

Shapes Shapes::next() const {
  Shapes out = *this;
  out.needed_.clear();
  out.produced_.clear();
  return out;
}

}  // namespace ribo
