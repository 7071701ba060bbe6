#include "model/measure.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <unordered_map>

namespace ribo {
namespace {

// Sees every allocation and release of torch's CPU allocator on this thread.
class AllocationCounter final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    live += bytes;
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t live = 0;
};

int64_t* flop_counter = nullptr;  // of the measurement in progress; only one thread measures

int64_t elements(const c10::IValue& v) { return v.isTensor() ? v.toTensor().numel() : 0; }

// FLOPs of the operators of kernels/, from their inputs; 0 for any other.
int64_t flops_of_kernel(std::string_view op, c10::ArrayRef<const c10::IValue> in) {
  const auto size = [&](size_t i, int64_t d) { return in[i].toTensor().size(d); };
  // As mamba-ssm counts: an exponential, three products and sums for each state.
  if (op == "selective_scan") return 9 * elements(in[0]) * size(2, 1);
  if (op == "causal_conv1d") return 2 * elements(in[0]) * size(1, 1);
  if (op == "depthwise_conv1d") {  // as wide as its widest filter
    int64_t width = 0;
    for (const at::Tensor& w : in[1].toTensorVector()) width = std::max(width, w.size(1));
    return 2 * elements(in[0]) * width;
  }
  if (op == "outer_product_mean") {  // one factor meets the projection first
    const int64_t positions = size(0, 0) * size(0, 1), length = size(0, 1), inner = size(0, 2);
    return 2 * positions * elements(in[2]) + 2 * positions * length * inner * size(2, 0);
  }
  if (op == "triangle_multiply") {  // six projections and a product over the third residue
    const int64_t hidden = in[1].toTensorVector()[2].size(0);
    return 12 * elements(in[0]) * hidden + 2 * elements(in[0]) / size(0, 3) * size(0, 1) * hidden;
  }
  if (op == "pair_transition") return 4 * elements(in[0]) * size(3, 0);
  if (op == "pair_bias_attention") return 4 * elements(in[0]) * size(1, 2);
  if (op == "triangle_attention") return 4 * elements(in[0]) * size(0, 1);
  return 0;
}

// FLOPs of an operator from its inputs; 0 for what only moves data.
int64_t flops_of(const at::RecordFunction& fn) {
  const auto in = fn.inputs();
  const std::string_view name = fn.name();
  const auto size = [&](size_t i, int64_t d) { return in[i].toTensor().size(d); };
  if (name.starts_with("ribo::")) return flops_of_kernel(name.substr(6), in);
  if (name == "aten::mm") return 2 * elements(in[0]) * size(1, 1);
  if (name == "aten::addmm") return 2 * elements(in[1]) * size(2, 1);
  if (name == "aten::bmm") return 2 * elements(in[0]) * size(1, 2);
  if (name == "aten::baddbmm") return 2 * elements(in[1]) * size(2, 2);
  if (name == "aten::convolution_overrideable" || name == "aten::_convolution") {
    // output elements x (input channels / groups) x kernel; "same" padding keeps the length
    const at::Tensor &x = in[0].toTensor(), &w = in[1].toTensor();
    int64_t positions = x.size(0);
    for (int64_t d = 2; d < x.dim(); ++d) positions *= x.size(d);
    return 2 * positions * w.numel();
  }
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu" ||
      name == "aten::_scaled_dot_product_flash_attention" ||
      name == "aten::_scaled_dot_product_efficient_attention" ||
      name == "aten::_scaled_dot_product_cudnn_attention") {
    return 4 * elements(in[0]) * in[1].toTensor().size(-2);
  }
  static const std::vector<std::string_view> arithmetic = {"aten::add",
                                                           "aten::add_",
                                                           "aten::sub",
                                                           "aten::mul",
                                                           "aten::mul_",
                                                           "aten::div",
                                                           "aten::exp",
                                                           "aten::exp_",
                                                           "aten::addcmul_",
                                                           "aten::addcmul",
                                                           "aten::silu",
                                                           "aten::softplus",
                                                           "aten::sigmoid",
                                                           "aten::gelu",
                                                           "aten::relu",
                                                           "aten::tanh",
                                                           "aten::native_layer_norm"};
  if (std::find(arithmetic.begin(), arithmetic.end(), name) != arithmetic.end()) {
    return elements(in[0]);
  }
  return 0;
}

std::unique_ptr<at::ObserverContext> on_operator(const at::RecordFunction& fn) {
  if (flop_counter) *flop_counter += flops_of(fn);
  return nullptr;
}

struct CostProbe final : ModelNode::Probe {
  void before(const PlanNode& node) override {
    if (node.is_group()) {
      groups.push_back({cost.blocks.size(), memory->live});
    } else {
      cost.blocks.push_back({&node, 0, -flops, -memory->live});
    }
  }
  void after(const PlanNode& node) override {
    if (!node.is_group()) {
      cost.blocks.back().flops += flops;
      cost.blocks.back().activation_bytes += memory->live;
      return;
    }
    // What the group's blocks made is gone again; what is left of it is its last one's output.
    const auto [first, live_before] = groups.back();
    groups.pop_back();
    if (first == cost.blocks.size()) return;
    for (size_t i = first; i < cost.blocks.size(); ++i) cost.blocks[i].activation_bytes = 0;
    cost.blocks.back().activation_bytes = memory->live - live_before;
  }
  ModelCost cost;
  std::vector<std::pair<size_t, int64_t>> groups;  // checkpointed: first block, memory before
  int64_t flops = 0;
  std::shared_ptr<AllocationCounter> memory = std::make_shared<AllocationCounter>();
};

void count_parameters(const ModelNode& node, std::unordered_map<std::string, int64_t>& by_path) {
  if (node.plan().is_group()) {
    for (const auto& child : node.children_in_order()) count_parameters(*child, by_path);
    return;
  }
  int64_t n = 0;
  for (const at::Tensor& p : node.parameters()) n += p.numel();
  by_path[node.plan().path] = n;
}

std::string text(const char* format, double a) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, a);
  return buffer;
}

std::string streams_text(const std::vector<std::string>& names, const Shapes& shapes, bool sizes) {
  std::string out;
  for (const std::string& name : names) {
    if (!out.empty()) out += ", ";
    out += name;
    if (sizes) out += " " + to_string(shapes.streams().find(name)->second.shape);
  }
  return out;
}

// "11,296,898"
std::string exact_count(int64_t n) {
  std::string out = std::to_string(n);
  for (size_t i = out.size(); i > 3;) out.insert(i -= 3, ",");
  return out;
}

size_t width_of(const std::string& s) {
  return static_cast<size_t>(std::count_if(
      s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string short_count(double n) {
  if (n >= 1e12) return text("%.2f T", n / 1e12);
  if (n >= 1e9) return text("%.2f G", n / 1e9);
  if (n >= 1e6) return text("%.2f M", n / 1e6);
  if (n >= 1e4) return text("%.1f k", n / 1e3);
  return text("%.0f", n);
}

std::string short_bytes(double n) {
  if (n >= 1024.0 * 1024 * 1024) return text("%.2f GiB", n / (1024.0 * 1024 * 1024));
  if (n >= 1024.0 * 1024) return text("%.1f MiB", n / (1024.0 * 1024));
  return text("%.1f KiB", n / 1024.0);
}

ModelCost measure(Model& model, Streams& batch) {
  CostProbe probe;
  flop_counter = &probe.flops;
  const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(on_operator)
                                                     .needsInputs(true)
                                                     .scopes({at::RecordScope::FUNCTION}));
  {
    at::RecordFunctionGuard recording(true);
    c10::DebugInfoGuard counting(c10::DebugInfoKind::PROFILER_STATE, probe.memory);
    model.set_probe(&probe);
    model.forward(batch);
    model.set_probe(nullptr);
  }
  at::removeCallback(handle);
  flop_counter = nullptr;

  ModelCost& cost = probe.cost;
  std::unordered_map<std::string, int64_t> parameters;
  for (const auto& node : model.nodes()) count_parameters(*node, parameters);
  for (BlockCost& block : cost.blocks) {
    block.parameters = parameters[block.node->path];
    cost.flops += block.flops;
    cost.activation_bytes += block.activation_bytes;
  }
  cost.parameters = model.count_parameters();
  cost.batch = batch.tokens().size(0);
  cost.length = batch.tokens().size(1);
  return cost;
}

std::string format_table(const Plan& plan, const ModelCost& cost) {
  struct Row {
    std::vector<std::string> cells;
  };
  std::vector<Row> rows = {{{"block", "type", "in", "out", "parameters", "FLOPs", "activations"}}};
  // Turns of a repeat cost the same: they share a row.
  for (const BlockCost& block : cost.blocks) {
    const PlanNode& node = *block.node;
    int64_t turns = 0, first = 1;
    for (const BlockCost& other : cost.blocks) {
      if (other.node->path != node.path) continue;
      if (turns == 0) first = other.node == &node;
      ++turns;
    }
    if (!first) continue;
    rows.push_back({{node.path.substr(sizeof("model.") - 1) + (turns > 1 ? cat(" x", turns) : ""),
                     node.type + (node.checkpoint ? " (checkpoint)" : ""),
                     streams_text(node.out.needed(), node.out, false),
                     streams_text(node.out.produced(), node.out, true),
                     short_count(static_cast<double>(block.parameters * turns)),
                     short_count(static_cast<double>(block.flops * turns)),
                     short_bytes(static_cast<double>(block.activation_bytes * turns))}});
  }
  rows.push_back({{"total", "", "", streams_text({}, plan.result, false),
                   exact_count(cost.parameters), short_count(static_cast<double>(cost.flops)),
                   short_bytes(static_cast<double>(cost.activation_bytes))}});
  std::vector<size_t> widths(rows[0].cells.size());
  for (const Row& row : rows) {
    for (size_t c = 0; c < widths.size(); ++c) {
      widths[c] = std::max(widths[c], width_of(row.cells[c]));
    }
  }
  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < widths.size(); ++c) {
      const std::string& cell = rows[r].cells[c];
      const std::string pad(widths[c] - width_of(cell), ' ');
      if (c > 0) line += "  ";
      line += c >= 4 ? pad + cell : cell + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (r == 0 || r + 2 == rows.size()) {
      size_t total = 2 * (widths.size() - 1);
      for (size_t w : widths) total += w;
      out += std::string(total, '-') + "\n";
    }
  }
  return out;
}

}  // namespace ribo
