// The plan: a pipeline's `model` section walked block by block, with every option read and every
// shape known, before any weight exists.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plugins/host.h"
#include "ribo/config.h"
#include "ribo/data.h"

namespace ribo {

/// One entry of `blocks`, expanded: a block, or a group of them (one turn of a `repeat`).
struct PlanNode {
  std::string id;    // below its parent, e.g. "1"; joined by dots it prefixes the weights' names
  std::string path;  // in the pipeline, e.g. "model.blocks[1].blocks[0]"
  Mark mark;
  bool checkpoint = false;  // recompute the activations in the backward pass

  // Of a block:
  std::string type;
  const plugins::Entry<BlockFactory>* entry = nullptr;
  std::shared_ptr<const void> options;
  Shapes in;   // the streams in front of it
  Shapes out;  // those behind it, with what it needed and produced

  // Of a group:
  std::vector<PlanNode> children;

  bool is_group() const { return entry == nullptr; }
};

struct Plan {
  std::vector<PlanNode> nodes;
  Shapes result;  // the streams behind the last block, the data's among them
};

/// Reads every option of `model` ({streams: {name: width}, blocks: [...]}). Problems go to
/// `diagnostics`; after one the plan is not complete and must not be walked.
Plan read_plan(const Value& model, const plugins::Host& host, Diagnostics& diagnostics);

/// Walks the plan's blocks over the data's streams. After a problem it must not be built.
void walk_plan(Plan& plan, const Value& model, const std::vector<StreamSpec>& data,
               Diagnostics& diagnostics);

/// Reads the map of one configurable thing ({type: x, ...}) against its factory's schema.
/// Returns null after a problem.
template <class Factory>
std::shared_ptr<void> read_options(const Factory& factory, const Value& map, std::string_view path,
                                   std::vector<std::string> host_keys, Diagnostics& diagnostics) {
  host_keys.emplace_back("type");
  std::shared_ptr<void> options = factory.schema->make_options();
  const size_t before = diagnostics.errors().size();
  factory.schema->parse(map, path, host_keys, diagnostics, options.get());
  return diagnostics.errors().size() == before ? options : nullptr;
}

/// The string under `type` of a map, or "" with a diagnostic.
std::string read_type(const Value& map, std::string_view path, std::string_view example,
                      Diagnostics& diagnostics);

/// Finds a type in the host's table and reads its options. Null pointers after a problem.
template <class Factory>
struct Chosen {
  std::string type, path;
  const plugins::Entry<Factory>* entry = nullptr;
  std::shared_ptr<void> options;
  explicit operator bool() const { return entry && options; }
};
template <class Factory>
Chosen<Factory> choose(const plugins::Host& host, const plugins::Table<Factory>& table,
                       std::string_view kind, const Value& map, std::string path,
                       std::vector<std::string> host_keys, Diagnostics& diagnostics) {
  Chosen<Factory> out;
  out.path = std::move(path);
  const std::string example = table.empty() ? "..." : table.begin()->first;
  out.type = read_type(map, out.path, example, diagnostics);
  if (out.type.empty()) return out;
  auto it = table.find(out.type);
  if (it == table.end()) {
    diagnostics.error(map.find("type")->mark, out.path + ".type",
                      host.unknown(kind, out.type, table));
    return out;
  }
  out.entry = &it->second;
  out.options = plugins::guarded(*out.entry->plugin, out.path, out.type, [&] {
    return read_options(out.entry->factory, map, out.path, std::move(host_keys), diagnostics);
  });
  return out;
}

}  // namespace ribo
