// One training step of pipelines/ribonanzanet.yaml (forward, backward, AdamW) beside the same
// network in plain ATen calls with nothing reordered (tests/support/ribonanzanet_reference.h) and
// beside this machine's float32 matrix product. Weights and tokens are the same; no dropout.
//   bench_ribonanzanet_step [--length 177] [--batch 1,2] [--repeats 3] [--no-reference] [--only "ribo, bf16"] [--json X]
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "common/isa.h"
#include "config/pipeline.h"
#include "core/keep_memory.h"
#include "support/blocks.h"
#include "support/memory.h"
#include "support/ribonanzanet_reference.h"
#include "train/optimizer.h"
#include "train/precision.h"
#include "train/trainer.h"

namespace ribo {
namespace {

// One sequence of 177 residues with the outer product reordered (issue "Kernels").
constexpr double kFlops = 195e9;
constexpr int64_t kLength = 177;

struct Arguments {
  int64_t length = kLength;
  std::vector<int64_t> batches = {1};
  int repeats = 3;
  bool reference = true;
  std::string json, only;
};

struct Row {
  std::string what;
  int64_t batch = 0;
  double seconds = 0;  // the fastest step
  double cpu = 0;      // CPU seconds of all threads, the least: what a busy machine disturbs less
  double bytes = 0;    // the peak, with weights, gradients and the optimizer's state
  double output_difference = 0, gradient_difference = 0;  // from the reference, relative
  std::string worst;                                      // the gradient that differs so
};

// What a step works on; made anew for each measurement, so that its memory is seen.
struct Network {
  Parameters parameters;
  std::function<at::Tensor(const at::Tensor& tokens)> forward;
};

struct Step {
  Row row;
  at::Tensor output;
  Tensors gradients;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu_now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// FLOP/s of at::mm, the best of a few.
double matrix_product_rate() {
  constexpr int64_t kSize = 2048;
  const at::Tensor a = at::randn({kSize, kSize}), b = at::randn({kSize, kSize});
  at::Tensor c = at::mm(a, b);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = now();
    at::mm_out(c, a, b);
    best = std::max(best, 2.0 * kSize * kSize * kSize / (now() - start));
  }
  return best;
}

Step measure(const std::string& what, const std::function<Network()>& make,
             const at::Tensor& tokens, const at::Tensor& cotangent, int repeats) {
  Step out;
  out.row = {.what = what, .batch = tokens.size(0), .seconds = 1e30, .cpu = 1e30};
  const testing::MemoryCounter memory;
  const Network network = make();
  const OptimizerFactory& adamw = optimizers().at("adamw");
  const auto optimizer = adamw.make(adamw.schema->make_options().get(), network.parameters);
  for (int i = 0; i < repeats; ++i) {
    for (const Parameter& p : network.parameters) p.tensor.mutable_grad().reset();
    out.output.reset();
    const double start = now(), cpu_start = cpu_now();
    const at::Tensor output = network.forward(tokens);
    torch::autograd::backward({output}, {cotangent});
    optimizer->step(0);  // all its work, and the weights stay: every step is the same
    out.row.seconds = std::min(out.row.seconds, now() - start);
    out.row.cpu = std::min(out.row.cpu, cpu_now() - cpu_start);
    out.output = output.detach();
  }
  out.row.bytes = static_cast<double>(memory.peak());
  for (const auto& [name, p, factor] : network.parameters) {
    out.gradients[name] = p.grad().defined() ? p.grad() : at::zeros_like(p);
  }
  return out;
}

Plan plan_of_pipeline(bool checkpoint) {
  std::vector<std::string> sets = {"define.mixer.dropout=0", "define.pair_track[1].dropout=0",
                                   "define.pair_track[2].dropout=0"};
  if (checkpoint)
    sets.insert(sets.end(), {"model.blocks[3].checkpoint=true", "model.blocks[4].checkpoint=true"});
  const Pipeline pipeline = load_pipeline(RIBO_SOURCE_DIR "/pipelines/ribonanzanet.yaml", sets);
  return testing::make_plan(to_yaml(*pipeline.root.find("model")));
}

struct Variant {
  const char* what;
  bool checkpoint;
  const char* precision;
  kernels::Isa most;
};

// bf16 rounds the operands of products, by AMX where the CPU has it.
constexpr Variant kVariants[] = {
    {"ribo", false, "float32", kernels::Isa::amx},
    {"ribo, checkpointed", true, "float32", kernels::Isa::amx},
    {"ribo, bf16", false, "bf16", kernels::Isa::amx},
    {"ribo, bf16 without AMX", false, "bf16", kernels::Isa::bf16},
};

Network ours(const Variant& variant, const Tensors& weights) {
  const auto model = std::make_shared<Model>(plan_of_pipeline(variant.checkpoint));
  load_weights(*model, weights);
  model->train();
  Network out;
  for (const auto& item : model->named_parameters()) {
    out.parameters.emplace_back(item.key(), item.value());
  }
  out.forward = [model, precision = std::string(variant.precision)](const at::Tensor& tokens) {
    const AutocastScope autocast(at::kCPU, precision);
    Streams streams;
    streams.set("tokens", tokens);
    streams.set("mask", at::ones(tokens.sizes(), at::kBool));
    model->forward(streams);
    return streams.get("pred.reactivity").to(at::kFloat);
  };
  return out;
}

Network reference(const testing::RibonanzaNet& net, const Tensors& weights) {
  Tensors own;
  Network out;
  for (const auto& [name, w] : testing::to_reference_names(net, weights)) {
    own[name] = w.clone().set_requires_grad(true);
    out.parameters.emplace_back(name, own[name]);
  }
  out.forward = [net, own](const at::Tensor& tokens) {
    return testing::ribonanzanet_reference(net, own, tokens);
  };
  return out;
}

void compare(Step& step, const Step& reference, const testing::RibonanzaNet& net) {
  step.row.output_difference = testing::relative_error(step.output, reference.output);
  for (const auto& [name, got] : testing::to_reference_names(net, step.gradients)) {
    const at::Tensor& want = reference.gradients.at(name);
    if (name.ends_with("pairwise_norm.bias") || want.count_nonzero().item<int64_t>() == 0) continue;
    // Of the whole tensor: a ReLU at its kink may fall to either side, and takes one number along.
    const double difference = ((got - want).norm() / want.norm()).item<double>();
    if (difference <= step.row.gradient_difference) continue;
    step.row.gradient_difference = difference;
    step.row.worst = name;
  }
}

void print(const std::vector<Row>& rows, double rate, int64_t length) {
  std::printf("at::mm 2048^3: %.1f GFLOP/s on %d threads\n", rate / 1e9, at::get_num_threads());
  std::printf("%-24s %5s %8s %8s %8s %8s %7s %8s %9s\n", "one step", "batch", "seconds", "faster",
              "CPU s", "GiB", "of mm", "output", "gradients");
  for (const Row& row : rows) {
    const auto base = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
      return r.batch == row.batch && r.what == "reference";
    });
    const double faster = base == rows.end() ? 0 : base->seconds / row.seconds;
    const double share =
        length == kLength ? kFlops * static_cast<double>(row.batch) / row.seconds / rate : 0;
    std::printf("%-24s %5ld %8.3f %7.2fx %8.3f %8.3f %6.1f%% %8.1g %9.1g %s\n", row.what.c_str(),
                static_cast<long>(row.batch), row.seconds, faster, row.cpu, row.bytes / (1 << 30),
                100 * share, row.output_difference, row.gradient_difference, row.worst.c_str());
  }
}

void write_json(const std::string& path, const std::vector<Row>& rows, double rate,
                int64_t length) {
  std::ofstream out(path);
  out << "{\"threads\": " << at::get_num_threads() << ", \"length\": " << length
      << ", \"mm_flops_per_second\": " << rate << ", \"steps\": [";
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    out << (i ? ",\n  " : "\n  ") << "{\"what\": \"" << row.what << "\", \"batch\": " << row.batch
        << ", \"seconds\": " << row.seconds << ", \"cpu_seconds\": " << row.cpu
        << ", \"peak_bytes\": " << row.bytes << ", \"output_difference\": " << row.output_difference
        << ", \"gradient_difference\": " << row.gradient_difference << "}";
  }
  out << "\n]}\n";
}

Arguments parse(const std::vector<std::string>& words) {
  Arguments out;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto value = [&] {
      if (++i == words.size()) throw Error(words[i - 1] + " needs a value");
      return words[i];
    };
    if (words[i] == "--length") {
      out.length = std::stol(value());
    } else if (words[i] == "--repeats") {
      out.repeats = std::stoi(value());
    } else if (words[i] == "--no-reference") {
      out.reference = false;
    } else if (words[i] == "--only") {
      out.only = value();
    } else if (words[i] == "--json") {
      out.json = value();
    } else if (words[i] == "--batch") {
      std::istringstream list(value());
      out.batches.clear();
      for (std::string n; std::getline(list, n, ',');) out.batches.push_back(std::stol(n));
    } else {
      throw Error("unknown argument " + words[i]);
    }
  }
  return out;
}

void run(const Arguments& arguments) {
  const testing::RibonanzaNet net;
  at::manual_seed(1);
  const Tensors weights = named_weights(Model(plan_of_pipeline(false)));
  double rate = matrix_product_rate();
  std::vector<Row> rows;
  for (const int64_t batch : arguments.batches) {
    const at::Tensor tokens = at::randint(0, 4, {batch, arguments.length}, at::kLong);
    const at::Tensor cotangent = at::randn({batch, arguments.length, 2});
    std::vector<Step> steps;
    for (const Variant& variant : kVariants) {
      if (!arguments.only.empty() && arguments.only != variant.what) continue;
      kernels::limit_isa(variant.most);
      if (variant.precision == std::string("bf16") && kernels::isa() != variant.most) continue;
      steps.push_back(measure(
          variant.what, [&] { return ours(variant, weights); }, tokens, cotangent,
          arguments.repeats));
      rate = std::max(rate, matrix_product_rate());
    }
    kernels::limit_isa(kernels::Isa::amx);
    if (arguments.reference) {
      const Step base = measure(
          "reference", [&] { return reference(net, weights); }, tokens, cotangent,
          std::min(2, arguments.repeats));
      for (Step& step : steps) compare(step, base, net);
      rows.push_back(base.row);
    }
    for (const Step& step : steps) rows.push_back(step.row);
  }
  print(rows, rate, arguments.length);
  if (!arguments.json.empty()) write_json(arguments.json, rows, rate, arguments.length);
}

}  // namespace
}  // namespace ribo

int main(int argc, char** argv) {
  ribo::keep_memory();
  try {
    ribo::run(ribo::parse({argv + 1, argv + argc}));
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
