#include <iostream>

#include "cli/verbs.h"
#include "plugins/host.h"
#include "ribo/version.h"

namespace ribo::cli {

int plugins(const Arguments& arguments) {
  po::variables_map values;
  if (!parse(arguments, "Usage: ribo-run plugins [options]\nLists what is found where.\n",
             po::options_description("Options"), "", values)) {
    return 0;
  }
  apply_common(values);
  const ribo::plugins::Host host(plugin_path(values));
  std::cout << "ribo-run " << RIBO_VERSION << ", plugin ABI " << RIBO_ABI << ", LibTorch "
            << TORCH_VERSION << ", build \"" << RIBO_BUILD_TAG << "\"\n\nSearched:\n";
  for (const auto& place : host.searched()) std::cout << "  " << place.string() << "\n";
  std::cout << "\nFound:\n";
  for (const auto* plugin : host.plugins()) {
    std::cout << "  " << plugin->name << " " << plugin->version
              << (plugin->built_in ? " (built in)" : "") << ": " << plugin->doc << "\n    "
              << plugin->file.string() << "\n   ";
    for (const std::string& name : plugin->provides) {
      std::cout << (name == plugin->provides.front() ? " " : ", ") << name;
    }
    std::cout << "\n";
  }
  if (host.plugins().empty()) std::cout << "  none\n";
  if (!host.refusals().empty()) std::cout << "\nRefused:\n";
  for (const auto& refusal : host.refusals()) {
    std::cout << "  " << refusal.file.string() << ": " << refusal.reason << "\n";
  }
  return 0;
}

}  // namespace ribo::cli
