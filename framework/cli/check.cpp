#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <iostream>
#include <map>

#include "cli/verbs.h"
#include "model/measure.h"
#include "ribo/log.h"
#include "train/precision.h"
#include "train/session.h"

namespace ribo::cli {
namespace {

// The sequence whose length most batches will be padded to: the longest of the split.
int64_t longest(const Split& split) {
  int64_t best = 0;
  for (int64_t i = 0; i < split.size(); ++i) best = std::max(best, split.length(i));
  return best;
}

int64_t count_frozen(const Model& model) {
  int64_t count = 0;
  for (const at::Tensor& p : model.parameters()) {
    if (!p.requires_grad()) count += p.numel();
  }
  return count;
}

// How much each rate of train.learning_rates trains.
void print_rates(const Parameters& parameters, const Value& rates) {
  if (rates.is_null()) return;
  std::map<double, int64_t> counts;
  for (const Parameter& p : parameters) counts[p.factor] += p.tensor.numel();
  std::cout << "train.learning_rates:";
  const char* separator = " ";
  for (const auto& [factor, count] : counts) {
    std::cout << separator << count << " parameters at " << factor << " times lr";
    separator = ", ";
  }
  std::cout << "\n";
}

// One forward and backward pass on two real sequences, so that a mistake that only a batch shows is
// found before a run.
void prove(const Session& session, Model& model, const Split& split) {
  const std::vector<int64_t> indices = {0, std::min<int64_t>(1, split.size() - 1)};
  Batch batch = collate(split, session.specs(), indices, {1, 2});
  Streams streams = to_device(batch.streams, session.device());
  model.train();
  {
    AutocastScope autocast(session.device().type(), session.options().precision);
    model.forward(streams);
  }
  const at::Tensor loss = session.loss()->forward(streams);
  torch::autograd::backward({loss}, {});
  if (!std::isfinite(loss.item<double>())) {
    throw Error(cat("the loss of the first two sequences is ", loss.item<double>(),
                    "; a block or the data makes a number that is not finite"));
  }
  std::string without;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad() && !item.value().grad().defined()) without += "\n  " + item.key();
  }
  std::cout << "forward and backward: ok, loss " << loss.item<double>() << "\n";
  if (!without.empty()) {
    log::warn("no gradient reaches these weights; nothing that the loss reads depends on them:" +
              without);
  }
}

}  // namespace

int check(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("pipeline", po::value<std::string>()->required(), "the YAML file")(
      "set", po::value<std::vector<std::string>>()->composing(), "a.b[2].c=value");
  po::variables_map values;
  if (!parse(arguments, "Usage: ribo-run check PIPELINE.yaml [options]\n", options, "pipeline",
             values)) {
    return 0;
  }
  apply_common(values);
  const SessionRequest request = session_request(values);
  Session session(request);
  for (const std::string& note : session.pipeline().notes) log::info(note);
  session.open();
  for (const std::string& line : session.data().report()) log::info(line);

  const auto split = session.split("train");
  auto model = session.build_model();
  session.load_initial_weights(*model);
  Batch batch = collate(*split, session.specs(), {0}, {0}, longest(*split));
  Streams streams = to_device(batch.streams, session.device());
  const ModelCost cost = measure(*model, streams);
  std::cout << format_table(session.plan(), cost) << "FLOPs and activations: forward pass of one "
            << "sequence of " << cost.length << " residues; a batch of "
            << session.options().batch / session.options().accumulate << " keeps "
            << short_bytes(static_cast<double>(cost.activation_bytes *
                                               (session.options().batch /
                                                session.options().accumulate)))
            << ".\n";
  if (const int64_t frozen = count_frozen(*model); frozen > 0) {
    std::cout << "init_from.freeze: " << frozen << " of " << model->count_parameters()
              << " parameters are not trained.\n";
  }
  print_rates(session.parameters(*model), session.options().learning_rates);
  prove(session, *model, *split);
  return 0;
}

}  // namespace ribo::cli
