#include <iostream>

#include "cli/verbs.h"
#include "plugins/host.h"
#include "ribo/config.h"
#include "train/options.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "weights/initial.h"

namespace ribo::cli {
namespace {

struct Item {
  std::string kind, name;
  const SchemaBase* schema;
  const ribo::plugins::Plugin* plugin;     // null: part of ribo-run itself
  const BlockFactory* block;               // null for other kinds
};

std::vector<Item> list_items(const ribo::plugins::Host& host) {
  std::vector<Item> items;
  const auto add = [&](const char* kind, const auto& table) {
    for (const auto& [name, entry] : table) {
      items.push_back({kind, name, entry.factory.schema.get(), entry.plugin, nullptr});
    }
  };
  for (const auto& [name, entry] : host.blocks()) {
    items.push_back({"block", name, entry.factory.schema.get(), entry.plugin, &entry.factory});
  }
  add("data source", host.data());
  add("loss", host.losses());
  add("metric", host.metrics());
  for (const auto& [name, f] : optimizers()) {
    items.push_back({"optimizer", name, f.schema.get(), nullptr, nullptr});
  }
  for (const auto& [name, f] : schedules()) {
    items.push_back({"schedule", name, f.schema.get(), nullptr, nullptr});
  }
  return items;
}

std::string first_sentence(const std::string& doc) {
  const size_t end = doc.find(". ");
  return end == std::string::npos ? doc : doc.substr(0, end + 1);
}

void print_params(const SchemaBase& schema) {
  if (schema.params().empty()) {
    std::cout << "\nIt has no parameters.\n";
    return;
  }
  std::cout << "\nParameters:\n";
  for (const Param& p : schema.params()) {
    std::cout << "  " << p.name << " (" << p.type;
    if (const std::string limits = p.constraint(); !limits.empty()) std::cout << ", " << limits;
    if (p.is_required) {
      std::cout << ", required";
    } else {
      std::string text = to_yaml(p.default_value);
      while (!text.empty() && text.back() == '\n') text.pop_back();
      std::cout << ", default " << (text.empty() ? "\"\"" : text);
    }
    std::cout << ")\n      " << p.doc << "\n";
  }
}

// The streams depend on the options and on what stands before the block; with the defaults and
// the usual streams in front of it, this is what it reads and writes.
void print_streams(const BlockFactory& block) {
  Shapes shapes;
  shapes.declare("single", 128);
  shapes.declare("pair", 64);
  shapes.produce("tokens", {dim::batch, dim::length});
  shapes.produce("mask", {dim::batch, dim::length});
  shapes.produce("single", {dim::batch, dim::length, 128});
  shapes = shapes.next();
  const auto options = block.schema->make_options();
  const auto print = [&](const char* title, const std::vector<std::string>& names) {
    std::cout << "  " << title;
    for (const std::string& name : names) {
      std::cout << " " << name << " " << to_string(shapes.streams().find(name)->second.shape);
    }
    std::cout << "\n";
  };
  std::cout << "\nStreams (with the defaults, behind an embedding of width 128):\n";
  try {
    block.shapes(options.get(), shapes);
    print("reads: ", shapes.needed());
    print("writes:", shapes.produced());
  } catch (const std::exception& e) {
    std::cout << "  " << e.what() << "\n";
  }
}

}  // namespace

int inspect(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("name", po::value<std::string>(), "what to describe");
  po::variables_map values;
  if (!parse(arguments,
             "Usage: ribo-run inspect [NAME | train | init_from]\n"
             "Without a name: lists every block, data source, loss, metric, optimizer, schedule.\n",
             options, "name", values)) {
    return 0;
  }
  apply_common(values);
  const ribo::plugins::Host host(plugin_path(values));
  const std::vector<Item> items = list_items(host);
  if (!values.count("name")) {
    std::string kind;
    for (const Item& item : items) {
      if (item.kind != kind) std::cout << (kind.empty() ? "" : "\n") << item.kind << ":\n";
      kind = item.kind;
      std::cout << "  " << item.name << ": " << first_sentence(item.schema->doc) << "\n";
    }
    return 0;
  }
  const std::string name = values["name"].as<std::string>();
  bool found = false;
  const auto print_section = [&](const char* section, const SchemaBase& schema) {
    if (name != section) return;
    std::cout << section << ": " << schema.doc << "\n";
    print_params(schema);
    found = true;
  };
  print_section("train", train_schema());
  print_section("init_from", init_from_schema());
  for (const Item& item : items) {
    if (item.name != name) continue;
    if (found) std::cout << "\n";
    found = true;
    std::cout << item.kind << " " << item.name;
    if (item.plugin) {
      std::cout << " (" << item.plugin->name << " " << item.plugin->version << ", "
                << item.plugin->file.string() << ")";
    }
    std::cout << "\n\n" << item.schema->doc << "\n";
    print_params(*item.schema);
    if (item.block) print_streams(*item.block);
  }
  if (!found) {
    std::vector<std::string> names = {"train", "init_from"};
    for (const Item& item : items) names.push_back(item.name);
    throw ConfigError(cat("nothing is called \"", name, "\"", did_you_mean(name, names),
                          "; `ribo-run inspect` lists everything"));
  }
  return 0;
}

}  // namespace ribo::cli
