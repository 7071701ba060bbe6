// Blocks and models from a line of YAML, over the plugins of the build tree.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "config/yaml_reader.h"
#include "model/model.h"
#include "model/plan.h"
#include "plugins/host.h"

namespace ribo::testing {

/// The built-in plugins, loaded once for a test program.
inline const plugins::Host& host() {
  static const auto* loaded = new plugins::Host({});
  return *loaded;
}

/// tokens and the targets 2a3 and dms: what the data sources of this project give.
inline std::vector<StreamSpec> data_streams() {
  return {{"tokens", {dim::length}, at::kLong, static_cast<double>(kPadToken)},
          {"target.reactivity", {dim::length, 2}, at::kFloat, NAN, {"2a3", "dms"}}};
}

/// Plans the text of a `model` section; throws ConfigError as ribo-run would, with `file_name`.
inline Plan make_plan(const std::string& model,
                      const std::vector<StreamSpec>& data = data_streams(),
                      const std::string& file_name = "test.yaml") {
  Diagnostics diagnostics;
  const Value value = read_yaml(model, file_name);
  Plan plan = read_plan(value, host(), diagnostics);
  diagnostics.throw_if_any();
  walk_plan(plan, value, data, diagnostics);
  diagnostics.throw_if_any();
  return plan;
}

inline std::shared_ptr<Model> make_model(const std::string& model, uint64_t seed = 1) {
  at::manual_seed(seed);
  return std::make_shared<Model>(make_plan(model));
}

/// A ragged batch: random tokens, a mask of these lengths, random targets.
inline Streams make_batch(const std::vector<int64_t>& lengths, uint64_t seed = 1) {
  auto generator = at::detail::createCPUGenerator(seed);
  const auto rows = static_cast<int64_t>(lengths.size());
  int64_t longest = 0;
  for (int64_t n : lengths) longest = std::max(longest, n);
  Streams out;
  const at::Tensor mask =
      at::arange(longest).unsqueeze(0) < at::tensor(lengths, at::kLong).unsqueeze(1);
  out.set("mask", mask);
  out.set("tokens", at::randint(0, 4, {rows, longest}, generator, at::kLong)
                        .masked_fill(mask.logical_not(), kPadToken));
  out.set("target.reactivity", at::rand({rows, longest, 2}, generator));
  return out;
}

/// Largest absolute difference over the largest absolute value of `want` (at least 1e-30).
inline double relative_error(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor a = got.detach().to(at::kDouble), b = want.detach().to(at::kDouble);
  if (a.numel() == 0) return 0;
  const double scale = std::max(1e-30, b.abs().max().item<double>());
  return (a - b).abs().max().item<double>() / scale;
}

}  // namespace ribo::testing
