#include "model/model.h"

#include "model/checkpointing.h"

namespace ribo {

ModelNode::ModelNode(const PlanNode& plan) : torch::nn::Module("node"), plan_(plan) {
  for (const PlanNode& child : plan.children) {
    children_.push_back(register_module(child.id, std::make_shared<ModelNode>(child)));
  }
  if (plan.is_group()) return;
  block_ = plugins::guarded(*plan.entry->plugin, plan.path, plan.type, [&] {
    return plan.entry->factory.make(plan.options.get(), plan.in);
  });
  // The block's own members stand directly below this node's name.
  for (auto& item : block_->named_parameters(false)) register_parameter(item.key(), item.value(), item.value().requires_grad());
  for (auto& item : block_->named_buffers(false)) register_buffer(item.key(), item.value());
  for (auto& item : block_->named_children()) register_module(item.key(), item.value());
}

void ModelNode::forward(Streams& streams) {
  const bool checkpoint = plan_.checkpoint && is_training() && at::GradMode::is_enabled();
  const bool probed = probe_ && (block_ || checkpoint);
  if (probed) probe_->before(plan_);
  if (checkpoint) {
    forward_checkpointed(streams, [this](Streams& s) { run(s); });
  } else {
    run(streams);
  }
  if (probed) probe_->after(plan_);
}

void ModelNode::run(Streams& streams) {
  for (auto& child : children_) child->forward(streams);
  if (!block_) return;
  plugins::guarded(*plan_.entry->plugin, plan_.path, plan_.type,
                   [&] { block_->forward(streams); });
}

void ModelNode::train(bool on) {
  torch::nn::Module::train(on);
  if (block_) block_->train(on);
}

void ModelNode::set_probe(Probe* probe) {
  probe_ = probe;
  for (auto& child : children_) child->set_probe(probe);
}

Model::Model(const Plan& plan) : torch::nn::Module("model"), shapes_(plan.result) {
  auto blocks = std::make_shared<torch::nn::Module>("blocks");
  for (const PlanNode& node : plan.nodes) {
    nodes_.push_back(blocks->register_module(node.id, std::make_shared<ModelNode>(node)));
  }
  register_module("blocks", blocks);
}

void Model::forward(Streams& streams) {
  for (auto& node : nodes_) node->forward(streams);
}

int64_t Model::count_parameters() const {
  int64_t count = 0;
  for (const at::Tensor& p : parameters()) count += p.numel();
  return count;
}

void Model::set_probe(ModelNode::Probe* probe) {
  for (auto& node : nodes_) node->set_probe(probe);
}

}  // namespace ribo
