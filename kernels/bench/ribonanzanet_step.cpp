// One training step of pipelines/ribonanzanet.yaml (forward, backward, AdamW) beside the same
// network in plain ATen calls with nothing reordered (tests/support/ribonanzanet_reference.h) and
// beside the matrix product of this machine, or of its GPU. Weights and tokens are the same; no
// dropout.
//   bench_ribonanzanet_step [--device cuda] [--length 177] [--batch 1,2] [--repeats 3]
//                           [--no-reference] [--only "ribo, bf16"] [--json X]
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
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
  at::Device device = at::kCPU;
  int64_t length = kLength;
  std::vector<int64_t> batches = {1};
  int repeats = 3;
  bool reference = true;
  std::string json, only;
};

struct Row {
  std::string what;
  std::string precision;  // float32, or bf16: under autocast
  int64_t batch = 0;
  double seconds = 0;  // the fastest step, which a busy machine disturbs least; on a GPU the median
  double cpu = 0;      // CPU seconds of all threads, the least
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
  Tensors gradients;  // called as in the reference
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu_now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void wait_for(at::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

// FLOP/s of at::mm, the best of a few.
double matrix_product_rate(at::Device device, at::ScalarType type) {
  const int64_t size = device.is_cuda() ? 8192 : 2048;
  const auto options = at::TensorOptions(device).dtype(type);
  const at::Tensor a = at::randn({size, size}, options), b = at::randn_like(a);
  at::Tensor c = at::mm(a, b);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    wait_for(device);
    const double start = now();
    at::mm_out(c, a, b);
    wait_for(device);
    best = std::max(best, 2.0 * std::pow(static_cast<double>(size), 3) / (now() - start));
  }
  return best;
}

// The most bytes in use since it was made, beyond those that were before.
class PeakMemory {
 public:
  explicit PeakMemory(at::Device device) {
    if (device.is_cuda()) {
      at::accelerator::resetPeakStats(0);
      before_ = on_gpu().current;
    } else {
      cpu_.emplace();
    }
  }
  double bytes() const {
    return static_cast<double>(cpu_ ? cpu_->peak() : on_gpu().peak - before_);
  }

 private:
  static c10::CachingAllocator::Stat on_gpu() {
    return at::accelerator::getDeviceStats(0)
        .allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  }
  std::optional<testing::MemoryCounter> cpu_;
  int64_t before_ = 0;
};

Step measure(Row row, const std::function<Network()>& make, const at::Tensor& tokens,
             const at::Tensor& cotangent, int repeats) {
  const at::Device device = tokens.device();
  Step out;
  out.row = std::move(row);
  out.row.batch = tokens.size(0);
  const PeakMemory memory(device);
  const Network network = make();
  const OptimizerFactory& adamw = optimizers().at("adamw");
  const auto optimizer = adamw.make(adamw.schema->make_options().get(), network.parameters);
  std::vector<double> seconds, cpu;
  // A GPU's first step loads its libraries.
  for (int i = device.is_cuda() ? -1 : 0; i < repeats; ++i) {
    for (const Parameter& p : network.parameters) p.tensor.mutable_grad().reset();
    out.output.reset();
    wait_for(device);
    const double start = now(), cpu_start = cpu_now();
    const at::Tensor output = network.forward(tokens);
    torch::autograd::backward({output}, {cotangent});
    optimizer->step(0);  // all its work, and the weights stay: every step is the same
    wait_for(device);
    if (i >= 0) {
      seconds.push_back(now() - start);
      cpu.push_back(cpu_now() - cpu_start);
    }
    out.output = output.detach();
  }
  std::sort(seconds.begin(), seconds.end());
  out.row.seconds = seconds[device.is_cuda() ? seconds.size() / 2 : 0];
  out.row.cpu = *std::min_element(cpu.begin(), cpu.end());
  out.row.bytes = memory.bytes();
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

// bf16 rounds the operands of products, on the CPU by AMX where it has it.
const std::vector<Variant> kOnCpu = {
    {"ribo", false, "float32", kernels::Isa::amx},
    {"ribo, checkpointed", true, "float32", kernels::Isa::amx},
    {"ribo, bf16", false, "bf16", kernels::Isa::amx},
    {"ribo, bf16 without AMX", false, "bf16", kernels::Isa::bf16},
};
const std::vector<Variant> kOnGpu = {
    {"ribo", false, "float32", kernels::Isa::amx},
    {"ribo, checkpointed", true, "float32", kernels::Isa::amx},
    {"ribo, bf16", false, "bf16", kernels::Isa::amx},
    {"ribo, bf16, checkpointed", true, "bf16", kernels::Isa::amx},
};

Network ours(const Variant& variant, const Tensors& weights, at::Device device) {
  const auto model = std::make_shared<Model>(plan_of_pipeline(variant.checkpoint));
  load_weights(*model, weights);
  model->to(device);
  model->train();
  Network out;
  for (const auto& item : model->named_parameters()) {
    out.parameters.emplace_back(item.key(), item.value());
  }
  out.forward = [model, precision = std::string(variant.precision)](const at::Tensor& tokens) {
    const AutocastScope autocast(tokens.device().type(), precision);
    Streams streams;
    streams.set("tokens", tokens);
    streams.set("mask", at::ones(tokens.sizes(), tokens.options().dtype(at::kBool)));
    model->forward(streams);
    return streams.get("pred.reactivity").to(at::kFloat);
  };
  return out;
}

Network reference(const testing::RibonanzaNet& net, const Tensors& weights, at::Device device,
                  const std::string& precision) {
  Tensors own;
  Network out;
  for (const auto& [name, w] : testing::to_reference_names(net, weights)) {
    own[name] = w.to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    own[name].set_requires_grad(true);
    out.parameters.emplace_back(name, own[name]);
  }
  out.forward = [=](const at::Tensor& tokens) {
    const AutocastScope autocast(tokens.device().type(), precision);
    return testing::ribonanzanet_reference(net, own, tokens).to(at::kFloat);
  };
  return out;
}

void compare(Step& step, const Step& reference) {
  step.row.output_difference = testing::relative_error(step.output, reference.output);
  for (const auto& [name, got] : step.gradients) {
    const at::Tensor& want = reference.gradients.at(name);
    if (name.ends_with("pairwise_norm.bias") || want.count_nonzero().item<int64_t>() == 0) continue;
    // Of the whole tensor: a ReLU at its kink may fall to either side, and takes one number along.
    const double difference = ((got - want).norm() / want.norm()).item<double>();
    if (difference <= step.row.gradient_difference) continue;
    step.row.gradient_difference = difference;
    step.row.worst = name;
  }
}

// FLOP/s of at::mm in each precision.
using Rates = std::map<std::string, double>;

// The reference in the row's precision; the CPU has it in float32 alone.
const Row* reference_of(const Row& row, const std::vector<Row>& rows) {
  const Row* found = nullptr;
  for (const Row& r : rows) {
    if (r.batch != row.batch || !r.what.starts_with("reference")) continue;
    if (!found || r.precision == row.precision) found = &r;
  }
  return found;
}

void print(const std::vector<Row>& rows, const Rates& rates, const Arguments& arguments) {
  const auto flops = [&](const char* precision) { return rates.at(precision) / 1e9; };
  if (arguments.device.is_cuda()) {
    std::printf("at::mm 8192^3: %.0f GFLOP/s in float32, %.0f in bfloat16\n", flops("float32"),
                flops("bf16"));
  } else {
    std::printf("at::mm 2048^3: %.1f GFLOP/s on %d threads\n", flops("float32"),
                at::get_num_threads());
  }
  std::printf("%-24s %5s %8s %8s %8s %8s %7s %8s %9s\n", "one step", "batch", "seconds", "faster",
              "CPU s", "GiB", "of mm", "output", "gradients");
  for (const Row& row : rows) {
    const Row* base = reference_of(row, rows);
    const double faster = base ? base->seconds / row.seconds : 0;
    const double work = arguments.length == kLength ? kFlops * static_cast<double>(row.batch) : 0;
    std::printf("%-24s %5ld %8.4f %7.2fx %8.3f %8.3f %6.1f%% %8.1g %9.1g %s\n", row.what.c_str(),
                static_cast<long>(row.batch), row.seconds, faster, row.cpu, row.bytes / (1 << 30),
                100 * work / row.seconds / rates.at(row.precision), row.output_difference,
                row.gradient_difference, row.worst.c_str());
  }
}

void write_json(const std::vector<Row>& rows, const Rates& rates, const Arguments& arguments) {
  std::ofstream out(arguments.json);
  out << "{\"device\": \"" << arguments.device << "\", \"threads\": " << at::get_num_threads()
      << ", \"length\": " << arguments.length
      << ", \"mm_flops_per_second\": " << rates.at("float32")
      << ", \"mm_bf16_flops_per_second\": " << rates.at("bf16") << ", \"steps\": [";
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
    if (words[i] == "--device") {
      out.device = at::Device(value());
      if (out.device.is_cuda() && !at::hasCUDA()) throw Error("there is no GPU here");
    } else if (words[i] == "--length") {
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
  const at::Device device = arguments.device;
  const bool gpu = device.is_cuda();
  at::manual_seed(1);
  const Tensors weights = named_weights(Model(plan_of_pipeline(false)));
  Rates rates;
  const auto measure_rates = [&] {
    for (const auto& [precision, type] :
         {std::pair("float32", at::kFloat), {"bf16", at::kBFloat16}}) {
      // The CPU's float32 product is what either precision stands beside.
      const double rate =
          gpu || type == at::kFloat ? matrix_product_rate(device, type) : rates["float32"];
      rates[precision] = std::max(rates[precision], rate);
    }
  };
  measure_rates();
  std::vector<Row> rows;
  for (const int64_t batch : arguments.batches) {
    const at::Tensor tokens = at::randint(0, 4, {batch, arguments.length}, at::kLong).to(device);
    const at::Tensor cotangent = at::randn({batch, arguments.length, 2}).to(device);
    std::vector<Step> steps;
    for (const Variant& variant : gpu ? kOnGpu : kOnCpu) {
      if (!arguments.only.empty() && arguments.only != variant.what) continue;
      kernels::limit_isa(variant.most);
      const bool bf16 = variant.precision == std::string("bf16");
      if (!gpu && bf16 && kernels::isa() != variant.most) continue;
      Step step = measure(
          {.what = variant.what, .precision = variant.precision},
          [&] { return ours(variant, weights, device); }, tokens, cotangent, arguments.repeats);
      step.gradients = testing::to_reference_names(net, step.gradients);
      steps.push_back(std::move(step));
      measure_rates();
    }
    kernels::limit_isa(kernels::Isa::amx);
    const auto measure_reference = [&](const char* what, const char* precision) {
      return measure(
          {.what = what, .precision = precision},
          [&] { return reference(net, weights, device, precision); }, tokens, cotangent,
          gpu ? arguments.repeats : std::min(2, arguments.repeats));
    };
    if (arguments.reference) {
      const Step base = measure_reference("reference", "float32");
      if (gpu) steps.push_back(measure_reference("reference, bf16", "bf16"));
      for (Step& step : steps) compare(step, base);
      rows.push_back(base.row);
    }
    for (const Step& step : steps) rows.push_back(step.row);
  }
  print(rows, rates, arguments);
  if (!arguments.json.empty()) write_json(rows, rates, arguments);
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
