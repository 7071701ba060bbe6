// A model built from a plan: the blocks in their order over one set of streams.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/plan.h"
#include "ribo/block.h"

namespace ribo {

/// One node of the model; its module tree mirrors the plan's, so that a weight is called
/// `blocks.<index>.<turn>.<index>.<name in the block>`.
class ModelNode : public torch::nn::Module {
 public:
  explicit ModelNode(const PlanNode& plan);
  /// Runs its block, or its children in order; under checkpointing where the plan says so.
  void forward(Streams& streams);
  void train(bool on = true) override;

  const PlanNode& plan() const { return plan_; }
  const std::vector<std::shared_ptr<ModelNode>>& children_in_order() const { return children_; }
  /// Called around each block of this subtree, and around each group that is checkpointed as a
  /// whole, when set (for measuring).
  struct Probe {
    virtual ~Probe() = default;
    virtual void before(const PlanNode& node) = 0;
    virtual void after(const PlanNode& node) = 0;
  };
  void set_probe(Probe* probe);

 private:
  void run(Streams& streams);
  const PlanNode plan_;
  std::shared_ptr<Block> block_;
  std::vector<std::shared_ptr<ModelNode>> children_;
  Probe* probe_ = nullptr;
};

class Model : public torch::nn::Module {
 public:
  /// Makes every block with its weights, drawn from torch's default generator in plan order.
  explicit Model(const Plan& plan);
  /// Adds the blocks' streams to `streams` (which hold tokens, mask and the data's own).
  void forward(Streams& streams);
  int64_t count_parameters() const;
  void set_probe(ModelNode::Probe* probe);
  const std::vector<std::shared_ptr<ModelNode>>& nodes() const { return nodes_; }
  /// The plan's streams behind the last block.
  const Shapes& shapes() const { return shapes_; }

 private:
  const Shapes shapes_;
  std::vector<std::shared_ptr<ModelNode>> nodes_;
};

}  // namespace ribo
