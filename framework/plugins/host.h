// Finds, checks, loads and keeps plugins, and answers which plugin makes what.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/plugin.h"

namespace ribo::plugins {

/// A plugin in use. It stays loaded until the process ends: objects and types of an unloaded
/// library crash whoever still holds them.
struct Plugin {
  std::filesystem::path file;
  std::string name, version, doc;
  bool built_in = false;              // its names carry no prefix
  std::vector<std::string> provides;  // "block mamba", ...
};

/// A file that was found and not taken.
struct Refusal {
  std::filesystem::path file;
  std::string reason;  // what is wrong, both values where two differ, and the remedy
};

template <class Factory>
struct Entry {
  Factory factory;
  const Plugin* plugin = nullptr;
};
template <class Factory>
using Table = std::map<std::string, Entry<Factory>, std::less<>>;

class Host {
 public:
  /// Loads everything in the search path, in order: the built-in folder last. `extra`: files or
  /// folders of --plugin-path, RIBO_PLUGIN_PATH and the pipeline. A refused file that `extra`
  /// names itself is a PluginError; in a folder it is kept in refusals(). Throws PluginError for
  /// two providers of a name.
  explicit Host(const std::vector<std::filesystem::path>& extra);
  ~Host();
  Host(const Host&) = delete;

  const Table<BlockFactory>& blocks() const { return blocks_; }
  const Table<DataFactory>& data() const { return data_; }
  const Table<LossFactory>& losses() const { return losses_; }
  const Table<MetricFactory>& metrics() const { return metrics_; }

  const std::vector<const Plugin*>& plugins() const { return plugins_; }
  const std::vector<Refusal>& refusals() const { return refusals_; }
  const std::vector<std::filesystem::path>& searched() const { return searched_; }

  /// For an error message: "unknown block \"mambo\"; did you mean \"mamba\"?", and which refused
  /// plugin might have had it.
  template <class Factory>
  std::string unknown(std::string_view kind, std::string_view name,
                      const Table<Factory>& table) const {
    std::vector<std::string> names;
    for (const auto& [key, entry] : table) names.push_back(key);
    return unknown(kind, name, names);
  }

 private:
  class Collector;
  void search(const std::filesystem::path& place, bool built_in, bool named);
  std::string load(const std::filesystem::path& file, bool built_in);  // "" or the refusal
  std::string unknown(std::string_view kind, std::string_view name,
                      const std::vector<std::string>& names) const;

  Table<BlockFactory> blocks_;
  Table<DataFactory> data_;
  Table<LossFactory> losses_;
  Table<MetricFactory> metrics_;
  std::vector<const Plugin*> plugins_;
  std::vector<Refusal> refusals_;
  std::vector<std::filesystem::path> searched_;
};

/// `<folder of libribo.so>/ribo/plugins`, the same in a build tree and an installed one.
std::filesystem::path built_in_folder();

/// Splits a colon-separated path list; empty entries vanish.
std::vector<std::filesystem::path> split_path_list(std::string_view list);

/// Rethrows the exception being handled with `path (type, file version): ` in front of its
/// message. ribo's own errors keep their type; anything else becomes a PluginError.
[[noreturn]] void rethrow_from(const Plugin& plugin, std::string_view path, std::string_view type);

/// Calls code of a plugin; what it throws is told with the place in the pipeline and the plugin.
template <class F>
auto guarded(const Plugin& plugin, std::string_view path, std::string_view type, F&& call) {
  try {
    return call();
  } catch (...) {
    rethrow_from(plugin, path, type);
  }
}

}  // namespace ribo::plugins
