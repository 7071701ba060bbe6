#include "model/checkpointing.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>

#include <torch/csrc/autograd/autograd.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <vector>

namespace ribo {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The generators that a segment may draw from.
std::vector<at::Generator> generators_for(const Streams& streams) {
  std::vector<at::Generator> out = {at::globalContext().defaultGenerator(at::kCPU)};
  for (const auto& [name, tensor] : streams) {
    if (tensor.is_cuda()) {
      out.push_back(at::globalContext().defaultGenerator(tensor.device()));
      break;
    }
  }
  return out;
}

std::vector<at::Tensor> get_states(const std::vector<at::Generator>& generators) {
  std::vector<at::Tensor> out;
  for (const at::Generator& g : generators) out.push_back(g.get_state());
  return out;
}

void set_states(std::vector<at::Generator>& generators, const std::vector<at::Tensor>& states) {
  for (size_t i = 0; i < generators.size(); ++i) generators[i].set_state(states[i]);
}

struct AutocastState {
  at::DeviceType device;
  bool enabled;
  at::ScalarType type;

  static AutocastState current(at::DeviceType device) {
    return {device, at::autocast::is_autocast_enabled(device),
            at::autocast::get_autocast_dtype(device)};
  }
  void apply() const {
    at::autocast::set_autocast_enabled(device, enabled);
    at::autocast::set_autocast_dtype(device, type);
  }
};

// Replays in the backward pass as the forward pass was: its random numbers, its autocast.
class AsInForward {
 public:
  AsInForward(std::vector<at::Generator>& generators, const std::vector<at::Tensor>& states,
              const AutocastState& autocast)
      : generators_(generators), states_(get_states(generators)),
        autocast_(AutocastState::current(autocast.device)) {
    set_states(generators_, states);
    autocast.apply();
  }
  ~AsInForward() {
    at::autocast::clear_cache();
    autocast_.apply();
    set_states(generators_, states_);
  }
  AsInForward(const AsInForward&) = delete;

 private:
  std::vector<at::Generator>& generators_;
  const std::vector<at::Tensor> states_;
  const AutocastState autocast_;
};

struct Segment : torch::CustomClassHolder {
  std::function<void(Streams&)> run;
  std::vector<std::string> inputs;   // differentiable streams, in the order of the node's inputs
  Streams constants;                 // streams that carry no gradient
  std::map<std::string, int64_t> versions;  // of the constants: they must not change in place
  std::vector<std::string> outputs;  // differentiable streams that the segment made or changed
  std::vector<at::Generator> generators;
  std::vector<at::Tensor> states;
  AutocastState autocast;

  // Runs on fresh leaves cut out of the outer graph. Gradients are recorded in the first pass too
  // (and thrown away), because ATen picks other kernels without them, with other last bits.
  Streams replay(at::TensorList tensors, variable_list& leaves) const {
    at::AutoGradMode enable(true);
    Streams streams = constants;
    for (size_t i = 0; i < inputs.size(); ++i) {
      leaves.push_back(tensors[i].detach().set_requires_grad(true));
      streams.set(inputs[i], leaves.back());
    }
    run(streams);
    return streams;
  }
};
using SegmentPtr = c10::intrusive_ptr<Segment>;

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // The anchor carries requires_grad into the node where only the segment's weights need it.
  static variable_list forward(AutogradContext* ctx, const SegmentPtr& segment, Streams* result,
                               const at::Tensor& /*anchor*/, at::TensorList tensors) {
    variable_list leaves, outputs;
    Streams after = segment->replay(tensors, leaves);
    *result = {};
    for (const auto& [name, tensor] : after) {
      const auto& names = segment->inputs;
      const auto it = std::find(names.begin(), names.end(), name);
      if (it != names.end() && tensor.is_same(leaves[it - names.begin()])) {
        result->set(name, tensors[it - names.begin()]);  // passed through
      } else if (tensor.requires_grad()) {
        segment->outputs.push_back(name);
        outputs.push_back(tensor.detach());
      } else {
        result->set(name, tensor);
      }
    }
    ctx->set_materialize_grads(false);  // a weight that no loss reaches has no gradient, not zeros
    ctx->save_for_backward(variable_list(tensors.begin(), tensors.end()));
    ctx->saved_data["segment"] = at::IValue::make_capsule(segment);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto capsule = ctx->saved_data["segment"].toCapsule();
    auto& segment = static_cast<Segment&>(*capsule);

    for (const auto& [name, version] : segment.versions) {
      if (static_cast<int64_t>(segment.constants.get(name)._version()) != version) {
        throw Error(cat("the stream \"", name, "\" was changed in place after a checkpointed block "
                        "read it; write a new tensor with Streams::set instead"));
      }
    }
    variable_list leaves;
    Streams after;
    {
      const AsInForward scope(segment.generators, segment.states, segment.autocast);
      after = segment.replay(ctx->get_saved_variables(), leaves);
    }
    variable_list roots, root_grads;
    for (size_t i = 0; i < segment.outputs.size(); ++i) {
      if (!grads[i].defined()) continue;
      roots.push_back(after.get(segment.outputs[i]));
      root_grads.push_back(grads[i]);
    }
    // Reentrant: the segment's weights get their gradients here, inputs hand theirs on.
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
    variable_list out(3);  // segment, result, anchor
    for (const at::Tensor& leaf : leaves) out.push_back(leaf.grad());
    return out;
  }
};

}  // namespace

void forward_checkpointed(Streams& streams, std::function<void(Streams&)> run) {
  auto segment = c10::make_intrusive<Segment>();
  segment->run = std::move(run);
  variable_list tensors;
  for (const auto& [name, tensor] : streams) {
    if (tensor.is_floating_point() && tensor.requires_grad()) {
      segment->inputs.push_back(name);
      tensors.push_back(tensor);
    } else {
      segment->constants.set(name, tensor);
      segment->versions[name] = static_cast<int64_t>(tensor._version());
    }
  }
  segment->generators = generators_for(streams);
  segment->states = get_states(segment->generators);
  segment->autocast =
      AutocastState::current(segment->generators.size() > 1 ? at::kCUDA : at::kCPU);

  const at::Tensor anchor = at::empty({0}).set_requires_grad(true);
  Streams result;
  // As a TensorList: autograd would take a vector for no tensors at all.
  const variable_list outputs =
      Checkpoint::apply(segment, &result, anchor, at::TensorList(tensors));
  for (size_t i = 0; i < outputs.size(); ++i) result.set(segment->outputs[i], outputs[i]);
  streams = std::move(result);
}

}  // namespace ribo
