#include "weights/initial.h"

#include <torch/nn/module.h>

#include "ribo/log.h"
#include "weights/convert.h"
#include "weights/foreign.h"
#include "weights/glob.h"

namespace ribo {
namespace {

std::vector<bool> select(const std::vector<std::string>& patterns,
                         const std::vector<std::string>& names, const char* key,
                         const Value& section) {
  if (patterns.empty()) return std::vector<bool>(names.size(), false);
  Diagnostics diagnostics;
  auto out = glob_select(patterns, names, *section.find(key), cat("init_from.", key), diagnostics);
  diagnostics.throw_if_any();
  return out;
}

// The file's tensors under our names, with what its map cannot place.
Conversion read(const InitFrom& init) {
  Tensors tensors = read_weights(init.path);
  if (init.map.empty()) return {std::move(tensors), {}};
  const NameMap map = NameMap::read(init.map);
  const Side side = map.side_of(names_of(tensors));
  return side == Side::ours ? Conversion{std::move(tensors), {}} : convert(tensors, map, side);
}

struct Fitted {
  Tensors own, given;
  size_t weights = 0, fitting = 0;  // of the model
  Misfits misfits;
};

Fitted fit(const torch::nn::Module& model, const InitFrom& init, const Value& section) {
  const std::string place = cat(section.mark.str(), ": init_from: ");
  Fitted out;
  out.own = named_weights(model);
  const std::vector<std::string> names = names_of(out.own);
  out.weights = names.size();
  const std::vector<bool> skipped = select(init.skip, names, "skip", section);
  Conversion given;
  try {
    given = read(init);
  } catch (const ConfigError& e) {
    throw ConfigError(cat(place, e.what()));
  } catch (const Error& e) {
    throw Error(cat(place, e.what()));
  }
  out.given = std::move(given.tensors);
  for (size_t i = 0; i < names.size(); ++i) {
    if (!skipped[i]) continue;
    out.own.erase(names[i]);
    out.given.erase(names[i]);
  }
  out.misfits = compare_weights(out.own, out.given);
  out.fitting = out.own.size() - out.misfits.missing.size() - out.misfits.misshapen.size();
  out.misfits.append(given.misfits);
  if (out.misfits.empty() || (!init.strict && out.fitting > 0)) return out;
  throw Error(cat(place, init.path, ": these weights are of another model:", out.misfits.str(),
                  out.fitting == 0
                      ? ""
                      : "\ninit_from.strict: false takes those that fit; init_from.skip names those "
                        "that keep their random start"));
}

}  // namespace

Schema<InitFrom> init_from_schema() {
  using O = InitFrom;
  Schema<O> s("Weights to start from instead of random ones.");
  s.param("path", &O::path,
          "a .safetensors file, a .pt file with a state_dict, or the directory of a run or of a "
          "checkpoint; relative to the pipeline")
      .required();
  s.param("map", &O::map, "map file from the file's names to this framework's; \"\" = as they are");
  s.param("strict", &O::strict,
          "every weight must be there and fit; false = take those that fit, warn of the others");
  s.param("skip", &O::skip, "patterns of weights that keep their random start: [\"blocks.5.*\"]");
  s.param("freeze", &O::freeze, "patterns of weights that are not trained: [\"blocks.0.*\"]");
  return s;
}

void check_initial_weights(const torch::nn::Module& model, const InitFrom& init,
                           const Value& section) {
  (void)fit(model, init, section);
}

void load_initial_weights(torch::nn::Module& model, const InitFrom& init, const Value& section) {
  const Fitted fitted = fit(model, init, section);
  copy_fitting_weights(fitted.own, fitted.given);
  log::info(cat("init_from: ", fitted.fitting, " of ", fitted.weights, " weights from ",
                init.path));
  if (!fitted.misfits.empty()) {
    log::warn("init_from: not all weights fit:" + fitted.misfits.str());
  }
}

void freeze_weights(torch::nn::Module& model, const InitFrom& init, const Value& section) {
  std::vector<std::string> names;
  for (const auto& item : model.named_parameters()) names.push_back(item.key());
  const std::vector<bool> frozen = select(init.freeze, names, "freeze", section);
  size_t left = names.size();
  auto parameters = model.parameters();
  for (size_t i = 0; i < names.size(); ++i) {
    if (!frozen[i]) continue;
    parameters[i].set_requires_grad(false);
    --left;
  }
  if (left > 0) return;
  throw ConfigError(cat(section.find("freeze")->mark.str(),
                        ": init_from.freeze: it matches every weight; nothing is left to train"));
}

}  // namespace ribo
