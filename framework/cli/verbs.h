// The verbs of ribo-run, one file each. Every verb parses its own arguments (those behind its
// name) and returns the exit status.
#pragma once

#include <boost/program_options.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ribo {
struct SessionRequest;
}

namespace ribo::cli {

using Arguments = std::vector<std::string>;

int train(const Arguments& arguments);
int check(const Arguments& arguments);
int plugins(const Arguments& arguments);
int inspect(const Arguments& arguments);
int predict(const Arguments& arguments);
int evaluate(const Arguments& arguments);
int compare(const Arguments& arguments);
int picture(const Arguments& arguments);
int convert(const Arguments& arguments);

namespace po = boost::program_options;

/// Parses strictly: no guessed abbreviations, unknown options are ConfigErrors with a suggestion.
/// `positional` names the option that takes the words without a dash ("" = none; "name..." = all of
/// them). Returns false after it printed the help.
bool parse(const Arguments& arguments, const std::string& usage, po::options_description options,
           const std::string& positional, po::variables_map& values);

/// --plugin-path, --quiet, --verbose.
po::options_description common_options();
void apply_common(const po::variables_map& values);
/// The folders of --plugin-path, then those of $RIBO_PLUGIN_PATH.
std::vector<std::filesystem::path> plugin_path(const po::variables_map& values);
/// `file`, or where there is none, what an installed Ribo has under that name: pipelines/...,
/// maps/...
std::string find_file(const std::string& file);
/// The files of --data; they become absolute.
std::vector<std::filesystem::path> data_files(const po::variables_map& values);
/// What --flip says; unset for auto. Throws ConfigError.
std::optional<bool> flip_option(const std::string& text);
/// What `pipeline`, `set` and --plugin-path of a verb ask for.
SessionRequest session_request(const po::variables_map& values);

}  // namespace ribo::cli
