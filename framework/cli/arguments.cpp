#include <cctype>
#include <cstdlib>
#include <iostream>

#include "cli/verbs.h"
#include "plugins/host.h"
#include "ribo/log.h"
#include "train/session.h"

namespace ribo::cli {
namespace {

// "RUN|CHECKPOINT" of "Usage: ribo-run evaluate RUN|CHECKPOINT [options]".
std::string first_word(const std::string& usage) {
  size_t at = usage.find(' ');
  while (at + 1 < usage.size() && !std::isupper(static_cast<unsigned char>(usage[at + 1]))) {
    at = usage.find(' ', at + 1);
  }
  return usage.substr(at + 1, usage.find_first_of(" \n", at + 1) - at - 1);
}

// Where options such as --data, which take every word behind them, may have taken that one.
std::string swallowed_by(const po::options_description& options, const po::variables_map& values) {
  for (const auto& option : options.options()) {
    const std::string& name = option->long_name();
    if (option->semantic()->max_tokens() < 2 || !values.count(name)) continue;
    return cat("; all words behind --", name, " belong to it, so write it in front of --", name);
  }
  return "";
}

}  // namespace

bool parse(const Arguments& arguments, const std::string& usage, po::options_description options,
           const std::string& words_option, po::variables_map& values) {
  const bool takes_all = words_option.ends_with("...");
  const std::string positional = words_option.substr(0, words_option.size() - (takes_all ? 3 : 0));
  options.add(common_options());
  options.add_options()("help,h", "this text");
  po::positional_options_description words;
  if (!positional.empty()) words.add(positional.c_str(), takes_all ? -1 : 1);
  namespace style = po::command_line_style;
  try {
    // Guessing would read a mistyped option as another one.
    po::store(po::command_line_parser(arguments)
                  .options(options)
                  .positional(words)
                  .style(style::unix_style & ~style::allow_guessing)
                  .run(),
              values);
    // Before notify(), which asks for what is required.
    if (values.count("help")) {
      std::cout << usage << "\n" << options;
      return false;
    }
    po::notify(values);
  } catch (const po::required_option& e) {
    const std::string& name = e.get_option_name();  // "--pipeline"
    const bool is_word = name == "--" + positional;
    const std::string missing =
        is_word ? cat(first_word(usage), " is missing", swallowed_by(options, values))
                : cat("say which ", name);
    throw ConfigError(cat(missing, "\n", usage.substr(0, usage.find('\n'))));
  } catch (const po::too_many_positional_options_error&) {
    throw ConfigError(cat("too many words on the command line; ",
                          usage.substr(0, usage.find('\n')), " (see --help)"));
  } catch (const po::unknown_option& e) {
    std::vector<std::string> names;
    for (const auto& option : options.options()) names.push_back("--" + option->long_name());
    throw ConfigError(cat("unknown option ", e.get_option_name(),
                          did_you_mean(e.get_option_name(), names), " (see --help)"));
  } catch (const po::error& e) {
    throw ConfigError(cat(e.what(), " (see --help)"));
  }
  return true;
}

po::options_description common_options() {
  po::options_description options("Common options");
  options.add_options()("plugin-path", po::value<std::vector<std::string>>()->composing(),
                        "plugin files or folders, colon-separated")(
      "quiet,q", "warnings and errors only")("verbose,v", "details too");
  return options;
}

void apply_common(const po::variables_map& values) {
  if (values.count("quiet")) log::set_level(log::Level::quiet);
  if (values.count("verbose")) log::set_level(log::Level::verbose);
}

std::optional<bool> flip_option(const std::string& text) {
  if (text == "auto") return std::nullopt;
  if (text != "yes" && text != "no") {
    throw ConfigError(cat("--flip ", text, ": expected yes, no or auto"));
  }
  return text == "yes";
}

std::vector<std::filesystem::path> plugin_path(const po::variables_map& values) {
  std::vector<std::filesystem::path> out;
  const auto add = [&out](std::string_view list) {
    for (auto& path : plugins::split_path_list(list)) out.push_back(std::move(path));
  };
  if (values.count("plugin-path")) {
    for (const auto& list : values["plugin-path"].as<std::vector<std::string>>()) add(list);
  }
  if (const char* list = std::getenv("RIBO_PLUGIN_PATH")) add(list);
  return out;
}

std::vector<std::filesystem::path> data_files(const po::variables_map& values) {
  std::vector<std::filesystem::path> out;
  if (!values.count("data")) return out;
  for (const auto& file : values["data"].as<std::vector<std::string>>()) {
    out.push_back(std::filesystem::absolute(file).lexically_normal());
  }
  return out;
}

std::string find_file(const std::string& file) {
  namespace fs = std::filesystem;
  std::error_code ec;
  if (fs::path(file).is_absolute() || fs::exists(file, ec)) return file;
  const fs::path libraries = plugins::built_in_folder().parent_path().parent_path();
  const fs::path installed = (libraries / RIBO_SHARE / file).lexically_normal();
  if (!fs::is_regular_file(installed, ec)) return file;
  log::info(cat(file, " is not here; taking ", installed.string()));
  return installed.string();
}

SessionRequest session_request(const po::variables_map& values) {
  SessionRequest request;
  request.pipeline = find_file(values["pipeline"].as<std::string>());
  if (values.count("set")) request.sets = values["set"].as<std::vector<std::string>>();
  request.plugin_path = plugin_path(values);
  return request;
}

}  // namespace ribo::cli
