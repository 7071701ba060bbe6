#include "model/plan.h"

#include <algorithm>
#include <set>

namespace ribo {
namespace {

constexpr int64_t kMaxBlocks = 10'000;

class Planner {
 public:
  Planner(const plugins::Host& host, Diagnostics& diagnostics)
      : host_(host), diagnostics_(diagnostics) {}

  // Reads every option of the list first, so that all mistakes are told together.
  std::vector<PlanNode> read(const Value& list, const std::string& path) {
    std::vector<PlanNode> nodes;
    if (!list.is_list()) {
      diagnostics_.error(list.mark, path, "expected a list of blocks, got " + list.describe());
      return nodes;
    }
    for (size_t i = 0; i < list.items.size(); ++i) {
      read_entry(list.items[i], cat(path, "[", i, "]"), cat(i), nodes);
    }
    return nodes;
  }

 private:
  void read_entry(const Value& entry, const std::string& path, const std::string& id,
                  std::vector<PlanNode>& out) {
    if (!entry.is_map()) {
      diagnostics_.error(entry.mark, path,
                         "expected a block such as {type: conv}, got " + entry.describe());
      return;
    }
    PlanNode node;
    node.id = id;
    node.path = path;
    node.mark = entry.mark;
    if (const Value* checkpoint = entry.find("checkpoint")) {
      const std::string wrong = read_value(*checkpoint, node.checkpoint);
      if (!wrong.empty()) diagnostics_.error(checkpoint->mark, path + ".checkpoint", wrong);
    }
    if (entry.find("repeat")) {
      read_repeat(entry, node, out);
      return;
    }
    auto chosen = choose(host_, host_.blocks(), "block", entry, path, {"checkpoint"}, diagnostics_);
    node.type = chosen.type;
    node.entry = chosen.entry;
    node.options = chosen.options;
    if (!chosen || !count_block(node)) return;
    out.push_back(std::move(node));
  }

  void read_repeat(const Value& entry, const PlanNode& like, std::vector<PlanNode>& out) {
    int64_t times = 0;
    const Value& count = *entry.find("repeat");
    std::string wrong = read_value(count, times);
    if (wrong.empty() && (times < 1 || times > 1000)) wrong = cat("must lie in 1..1000, got ", times);
    if (!wrong.empty()) diagnostics_.error(count.mark, like.path + ".repeat", wrong);
    for (const auto& member : entry.members) {
      if (member.key != "repeat" && member.key != "blocks" && member.key != "checkpoint") {
        diagnostics_.error(member.key_mark, like.path,
                           cat("unknown key \"", member.key, "\" beside repeat",
                               did_you_mean(member.key, {"blocks", "checkpoint", "repeat"})));
      }
    }
    const Value* blocks = entry.find("blocks");
    if (!blocks) {
      diagnostics_.error(entry.mark, like.path,
                         "repeat needs \"blocks\", the list that is repeated");
      return;
    }
    PlanNode repeat = like;
    repeat.checkpoint = false;
    PlanNode turn = like;
    turn.children = read(*blocks, like.path + ".blocks");
    for (int64_t t = 0; t < times; ++t) {
      turn.id = cat(t);
      if (t > 0 && !count_again(turn)) return;
      repeat.children.push_back(turn);
    }
    out.push_back(std::move(repeat));
  }

  bool count_block(const PlanNode& node) {
    if (++blocks_ <= kMaxBlocks) return true;
    if (blocks_ == kMaxBlocks + 1) {
      diagnostics_.error(node.mark, node.path,
                         cat("the model has more than ", kMaxBlocks, " blocks; lower a repeat"));
    }
    return false;
  }
  bool count_again(const PlanNode& node) {
    if (!node.is_group()) return count_block(node);
    for (const PlanNode& child : node.children) {
      if (!count_again(child)) return false;
    }
    return true;
  }

  const plugins::Host& host_;
  Diagnostics& diagnostics_;
  int64_t blocks_ = 0;
};

void read_streams(const Value& model, Shapes& shapes, Diagnostics& diagnostics) {
  const Value* streams = model.find("streams");
  if (!streams || streams->is_null()) return;
  if (!streams->is_map()) {
    diagnostics.error(streams->mark, "model.streams",
                      "expected widths such as {single: 128}, got " + streams->describe());
    return;
  }
  for (const auto& member : streams->members) {
    int64_t width = 0;
    std::string wrong = read_value(member.value, width);
    if (wrong.empty() && (width < 1 || width > 65536)) {
      wrong = cat("must lie in 1..65536, got ", width);
    }
    if (wrong.empty()) {
      shapes.declare(member.key, width);
    } else {
      diagnostics.error(member.value.mark, "model.streams." + member.key, wrong);
    }
  }
}

// Stops at the first problem: what follows it would complain about streams that it should have made.
bool walk(std::vector<PlanNode>& nodes, Shapes& shapes, Diagnostics& diagnostics) {
  for (PlanNode& node : nodes) {
    if (node.is_group()) {
      if (!walk(node.children, shapes, diagnostics)) return false;
      continue;
    }
    node.in = shapes.next();
    node.out = node.in;
    try {
      plugins::guarded(*node.entry->plugin, node.path, node.type,
                       [&] { node.entry->factory.shapes(node.options.get(), node.out); });
    } catch (const ConfigError& e) {
      diagnostics.error(node.mark, "", e.what());
      return false;
    }
    shapes = node.out.next();
  }
  return true;
}

}  // namespace

Plan read_plan(const Value& model, const plugins::Host& host, Diagnostics& diagnostics) {
  Plan plan;
  if (!model.is_map()) {
    diagnostics.error(model.mark, "model",
                      "expected a map with streams and blocks, got " + model.describe());
    return plan;
  }
  for (const auto& member : model.members) {
    if (member.key != "streams" && member.key != "blocks") {
      diagnostics.error(member.key_mark, "model",
                        cat("unknown key \"", member.key, "\"",
                            did_you_mean(member.key, {"streams", "blocks"})));
    }
  }
  read_streams(model, plan.result, diagnostics);
  if (const Value* blocks = model.find("blocks")) {
    plan.nodes = Planner(host, diagnostics).read(*blocks, "model.blocks");
  } else {
    diagnostics.error(model.mark, "model", "missing key \"blocks\": the list of blocks");
  }
  return plan;
}

void walk_plan(Plan& plan, const Value& model, const std::vector<StreamSpec>& data,
               Diagnostics& diagnostics) {
  Shapes& shapes = plan.result;
  for (const StreamSpec& spec : data) {
    Shape shape = {dim::batch};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    shapes.produce(spec.name, shape, spec.labels);
  }
  shapes.produce("mask", {dim::batch, dim::length});
  if (!walk(plan.nodes, shapes, diagnostics)) return;

  const Value* streams = model.find("streams");
  if (!streams || !streams->is_map()) return;
  std::vector<std::string> made;
  for (const auto& [name, stream] : shapes.streams()) made.push_back(name);
  for (const auto& member : streams->members) {
    // A stream that a swap left without its blocks is no mistake; a mistyped one is.
    const std::string hint = shapes.has(member.key) ? "" : did_you_mean(member.key, made);
    if (!hint.empty()) {
      diagnostics.error(member.key_mark, "model.streams",
                        cat("no block makes a stream \"", member.key, "\"", hint));
    }
  }
}

std::string read_type(const Value& map, std::string_view path, std::string_view example,
                      Diagnostics& diagnostics) {
  if (!map.is_map()) {
    diagnostics.error(map.mark, path,
                      cat("expected a map such as {type: ", example, "}, got ", map.describe()));
    return "";
  }
  const Value* type = map.find("type");
  std::string name;
  if (!type) {
    diagnostics.error(map.mark, path, cat("missing key \"type\", e.g. {type: ", example, "}"));
  } else if (std::string wrong = read_value(*type, name); !wrong.empty()) {
    diagnostics.error(type->mark, cat(path, ".type"), wrong);
  }
  return name;
}

}  // namespace ribo
