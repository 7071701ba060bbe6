#include "report/take_picture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "predict/watch.h"

namespace ribo {
namespace {

std::vector<float> numbers(const at::Tensor& x) {
  const at::Tensor flat = x.to(at::kCPU, at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

SquareMap map_of(const at::Tensor& x) { return {static_cast<size_t>(x.size(0)), numbers(x)}; }

std::string letters_of(const at::Tensor& tokens) {
  const at::Tensor cpu = tokens.cpu().contiguous();
  std::string out;
  for (int64_t i = 0; i < cpu.numel(); ++i) {
    const int64_t token = cpu.const_data_ptr<int64_t>()[i];
    out += token >= 0 && token < kTokens ? "ACGUN"[token] : 'N';
  }
  return out;
}

// The column of a stream [1, L, columns] of the data that belongs to a target; empty where there is
// none. Columns without names are in the targets' order.
std::vector<float> column_of(const Streams& sample, const Shapes& shapes, const std::string& stream,
                             const std::string& target, size_t index) {
  if (!sample.has(stream) || !shapes.has(stream)) return {};
  const auto& labels = shapes.labels(stream);
  if (!labels.empty()) {
    index = static_cast<size_t>(std::find(labels.begin(), labels.end(), target) - labels.begin());
  }
  const at::Tensor& x = sample.get(stream);
  const auto column = static_cast<int64_t>(index);
  if (x.dim() != 3 || column >= x.size(2)) return {};
  return numbers(x[0].select(1, column));
}

// As the field writes them.
std::string title_of(const std::string& target) {
  if (target == "2a3") return "2A3";
  return target == "dms" ? "DMS" : target;
}

}  // namespace

Picture take_picture(const Ensemble& ensemble, const std::string& id, const Streams& sample,
                     std::optional<int64_t> layer) {
  const at::NoGradGuard no_grad;
  const TrainedModel& first = ensemble.models().front();
  const Shapes& shapes = first.session->plan().result;
  Picture picture;
  picture.id = id;
  picture.letters = letters_of(sample.tokens()[0]);

  const Watched watched = watch(first, sample, layer);
  if (watched.pairing.defined()) picture.pairing = map_of(watched.pairing);
  if (watched.pair_strength.defined()) picture.pair_strength = map_of(watched.pair_strength);
  for (int64_t h = 0; watched.attention.defined() && h < watched.attention.size(0); ++h) {
    picture.attention.push_back(map_of(watched.attention[h]));
  }
  picture.pair_width = watched.pair_width;
  picture.layer = watched.layer;
  picture.layers = watched.layers;

  const at::Tensor predicted = ensemble.predict(sample)[0];
  int64_t column = 0;
  for (const Output& output : outputs_of(shapes)) {
    const std::string what = output.stream.substr(5);  // behind `pred.`
    for (size_t i = 0; i < output.targets.size(); ++i) {
      const std::string& target = output.targets[i];
      picture.profile.push_back({title_of(target), numbers(predicted.select(1, column++)),
                                 column_of(sample, shapes, "target." + what, target, i),
                                 column_of(sample, shapes, "error." + what, target, i)});
    }
  }
  return picture;
}

}  // namespace ribo
