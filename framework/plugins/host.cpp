#include "plugins/host.h"

#include <dlfcn.h>
#include <torch/library.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <cctype>

#include "plugins/elf.h"
#include "ribo/log.h"

namespace ribo::plugins {
namespace fs = std::filesystem;
namespace dll = boost::dll;
namespace {

// Never destroyed: see Plugin.
struct Kept {
  dll::shared_library library;
  Plugin plugin;
  std::vector<std::shared_ptr<torch::Library>> operators;
  bool is_set_up = false;
};
std::vector<std::unique_ptr<Kept>>& kept() {
  static auto* all = new std::vector<std::unique_ptr<Kept>>();
  return *all;
}

std::string differs(std::string_view what, std::string_view theirs, std::string_view ours,
                    std::string_view remedy) {
  return cat(what, " differs: the plugin has ", theirs, ", this ribo-run has ", ours, "; ", remedy);
}

std::string torch_version(uint64_t abi) {
  return cat(abi / 1'000'000, ".", abi / 1000 % 1000, ".", abi % 1000);
}

// Compares the descriptor field by field, the size first: a different layout hides the rest.
std::string check_info(const PluginInfo& info) {
  constexpr std::string_view rebuild = "rebuild the plugin against this version of Ribo";
  if (info.struct_size != sizeof(PluginInfo)) {
    return differs("the size of PluginInfo", cat(info.struct_size), cat(sizeof(PluginInfo)),
                   rebuild);
  }
  if (info.ribo_abi != RIBO_ABI) {
    return differs("the plugin ABI", cat(info.ribo_abi), cat(RIBO_ABI), rebuild);
  }
  if (info.torch_abi != RIBO_TORCH_ABI) {
    return differs("LibTorch", torch_version(info.torch_abi), torch_version(RIBO_TORCH_ABI),
                   "rebuild the plugin with the LibTorch that Ribo was built with");
  }
  if (!info.build_tag || !info.name || !info.version || !info.doc || !info.setup) {
    return "its descriptor has an empty field; use RIBO_PLUGIN to define it";
  }
  if (std::string_view(info.build_tag) != RIBO_BUILD_TAG) {
    return differs("the build", cat("\"", info.build_tag, "\""), cat("\"", RIBO_BUILD_TAG, "\""),
                   "rebuild the plugin with the same compiler and options");
  }
  const std::string_view name = info.name;
  const auto is_odd = [](unsigned char c) { return !std::isalnum(c) && c != '_' && c != '-'; };
  if (name.empty() || std::any_of(name.begin(), name.end(), is_odd)) {
    return cat("its name is \"", name, "\", but its types are called <name>/<type>; use letters, "
               "digits, _ and - alone");
  }
  return "";
}

// What the dynamic linker said, without Boost's frame around it.
std::string loader_message(const std::string& what) {
  constexpr std::string_view before = "dlerror system message: ";
  const size_t begin = what.find(before), end = what.rfind("): ");
  if (begin == std::string::npos || end == std::string::npos || end < begin) return what;
  return what.substr(begin + before.size(), end - begin - before.size());
}

std::string message_of(const std::exception& e) {
  const auto* torch = dynamic_cast<const c10::Error*>(&e);
  return torch ? torch->what_without_backtrace() : e.what();
}

}  // namespace

// Holds what a setup function registers until all of it is known to be good.
class Host::Collector final : public Registrar {
 public:
  // `again`: another host of this process has set the plugin up, so that its operators are defined.
  Collector(std::string prefix, bool again) : prefix_(std::move(prefix)), again_(again) {}

  void ops(const std::string& ns, const std::function<void(torch::Library&)>& define) override {
    if (again_) return;
    auto library = std::make_shared<torch::Library>(torch::Library::FRAGMENT, ns, std::nullopt,
                                                    __FILE__, __LINE__);
    try {
      define(*library);
    } catch (...) {
      // Told after what the plugin provides is known: a copy of a loaded plugin is better told so.
      if (!ops_failure) ops_failure = std::current_exception();
    }
    operators.push_back(std::move(library));
  }
  void add_block(std::string name, BlockFactory f) override { add(blocks, "block", name, f); }
  void add_data(std::string name, DataFactory f) override { add(data, "data source", name, f); }
  void add_loss(std::string name, LossFactory f) override { add(losses, "loss", name, f); }
  void add_metric(std::string name, MetricFactory f) override { add(metrics, "metric", name, f); }

  Table<BlockFactory> blocks;
  Table<DataFactory> data;
  Table<LossFactory> losses;
  Table<MetricFactory> metrics;
  std::vector<std::string> provides;
  std::vector<std::shared_ptr<torch::Library>> operators;
  std::exception_ptr ops_failure;

 private:
  template <class F>
  void add(Table<F>& table, const char* kind, const std::string& name, F& factory) {
    const std::string full = prefix_ + name;
    if (!table.emplace(full, Entry<F>{std::move(factory), nullptr}).second) {
      throw PluginError(cat("it registers the ", kind, " \"", full, "\" twice"));
    }
    provides.push_back(cat(kind, " ", full));
  }
  std::string prefix_;
  const bool again_;
};

Host::Host(const std::vector<fs::path>& extra) {
  for (const fs::path& place : extra) search(place, false, true);
  search(built_in_folder(), true, false);
}

Host::~Host() = default;

void Host::search(const fs::path& place, bool built_in, bool named) {
  std::error_code ec;
  const fs::path path = fs::absolute(place);
  searched_.push_back(path);
  if (fs::is_directory(path, ec)) {
    std::vector<fs::path> files;
    for (auto it = fs::directory_iterator(path, ec); !ec && it != fs::end(it); it.increment(ec)) {
      if (it->path().extension() == ".so") files.push_back(it->path());
    }
    if (ec) throw PluginError(cat(path.string(), ": cannot be listed: ", ec.message()));
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      if (std::string why = load(file, built_in); !why.empty()) refusals_.push_back({file, why});
    }
  } else if (!fs::exists(path, ec)) {
    if (named) {
      throw PluginError(cat(path.string(), ": no such plugin file or folder; check --plugin-path, "
                            "RIBO_PLUGIN_PATH and the pipeline's plugins:"));
    }
  } else if (std::string why = load(path, built_in); !why.empty()) {
    throw PluginError(cat(path.string(), ": ", why));
  }
}

std::string Host::load(const fs::path& given, bool built_in) {
  std::error_code ec;
  const fs::path file = fs::canonical(given, ec);
  built_in = built_in || file.parent_path() == built_in_folder();  // also when named by a path list
  if (ec) return cat("cannot be read: ", ec.message());  // a link to nowhere
  for (const Plugin* p : plugins_) {
    if (p->file == file) return "";  // two search folders may hold one file
  }
  if (std::string wrong = check_elf(file); !wrong.empty()) return wrong;

  auto keep = std::make_unique<Kept>();
  const PluginInfo* info = nullptr;
  try {
    if (!exports(file, "ribo_plugin")) {
      return "is no Ribo plugin (it has no symbol ribo_plugin; RIBO_PLUGIN defines it)";
    }
    // rtld_now: a missing symbol is an exception here, not the end of the process at its first use.
    keep->library.load(file.string(), dll::load_mode::rtld_now | dll::load_mode::rtld_local);
    info = &keep->library.get<const PluginInfo>("ribo_plugin");
  } catch (const std::exception& e) {
    return cat("cannot be loaded: ", loader_message(e.what()),
               "; rebuild it against this version of Ribo and link all that it uses");
  }
  // From here on the library stays, refused or not: its code has been mapped and may have run.
  Kept& k = *kept().emplace_back(std::move(keep));
  if (std::string wrong = check_info(*info); !wrong.empty()) return wrong;

  k.plugin = {file, info->name, info->version, info->doc, built_in, {}};
  const bool again = std::any_of(kept().begin(), kept().end(), [&](const auto& other) {
    return other->is_set_up && other->plugin.file == file;
  });
  Collector found(built_in ? "" : k.plugin.name + "/", again);
  const auto call = [&](const auto& function) -> std::string {
    const std::string failed = cat("the setup of ", info->name, " ", info->version);
    try {
      function();
      return "";
    } catch (const std::exception& e) {
      return cat(failed, " failed: ", message_of(e));
    } catch (...) {
      return cat(failed, " threw something that is no std::exception");
    }
  };
  if (std::string wrong = call([&] { info->setup(found); }); !wrong.empty()) return wrong;
  const auto check = [&](const auto& ours, auto& theirs, const char* kind) {
    for (auto& [name, entry] : theirs) {
      if (auto it = ours.find(name); it != ours.end()) {
        throw PluginError(cat("two plugins provide the ", kind, " \"", name, "\": ",
                              it->second.plugin->file.string(), " and ", file.string(),
                              "; remove one from the search path"));
      }
      entry.plugin = &k.plugin;
    }
  };
  check(blocks_, found.blocks, "block");
  check(data_, found.data, "data source");
  check(losses_, found.losses, "loss");
  check(metrics_, found.metrics, "metric");
  if (found.ops_failure) return call([&] { std::rethrow_exception(found.ops_failure); });
  blocks_.merge(found.blocks);
  data_.merge(found.data);
  losses_.merge(found.losses);
  metrics_.merge(found.metrics);
  k.plugin.provides = std::move(found.provides);
  k.operators = std::move(found.operators);
  k.is_set_up = true;
  plugins_.push_back(&k.plugin);
  return "";
}

std::string Host::unknown(std::string_view kind, std::string_view name,
                          const std::vector<std::string>& names) const {
  std::string out = cat("unknown ", kind, " \"", name, "\"");
  std::string near = did_you_mean(name, names);
  if (near.empty()) {
    // `gated_conv` for `mylab/gated_conv`: the prefix is easily forgotten.
    for (const std::string& full : names) {
      if (full.ends_with(cat("/", name))) near = cat("; did you mean \"", full, "\"?");
    }
  }
  if (near.empty()) {
    out += "; there are:";
    for (size_t i = 0; i < names.size(); ++i) out += (i ? ", " : " ") + names[i];
  } else {
    out += near;
  }
  for (const Refusal& r : refusals_) {
    out += cat("\n  ", r.file.filename().string(), " was refused: ", r.reason);
  }
  return out;
}

fs::path built_in_folder() {
  Dl_info where{};
  dladdr(reinterpret_cast<const void*>(&built_in_folder), &where);
  return fs::canonical(where.dli_fname).parent_path() / "ribo" / "plugins";
}

std::vector<fs::path> split_path_list(std::string_view list) {
  std::vector<fs::path> out;
  while (!list.empty()) {
    const size_t colon = std::min(list.find(':'), list.size());
    if (colon > 0) out.emplace_back(list.substr(0, colon));
    list.remove_prefix(std::min(colon + 1, list.size()));
  }
  return out;
}

void rethrow_from(const Plugin& plugin, std::string_view path, std::string_view type) {
  const std::string where = cat(path, " (", type, ", ", plugin.file.filename().string(), " ",
                                plugin.version, "): ");
  try {
    throw;
  } catch (const ConfigError& e) {
    throw ConfigError(where + e.what());
  } catch (const PluginError& e) {
    throw PluginError(where + e.what());
  } catch (const Error& e) {
    throw Error(where + e.what());
  } catch (const c10::Error& e) {
    throw PluginError(where + e.what_without_backtrace());
  } catch (const std::exception& e) {
    throw PluginError(where + e.what());
  } catch (...) {
    throw PluginError(where + "threw something that is no std::exception");
  }
}

}  // namespace ribo::plugins
