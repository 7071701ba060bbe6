// ribo-run: reads a pipeline, trains its model, and answers questions about it. launcher.cpp calls
// ribo_main().
#include <c10/util/Exception.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>

#include "cli/verbs.h"
#include "ribo/config.h"
#include "ribo/log.h"
#include "ribo/version.h"

namespace {

constexpr const char* kUsage =
    R"(Usage: ribo-run PIPELINE.yaml [options]      train the model of a pipeline
       ribo-run check PIPELINE.yaml            its blocks, shapes and costs; proves that it runs
       ribo-run predict RUN --input x.fasta    what a trained model says of sequences
       ribo-run picture RUN --out page.html    the same as a page of pictures
       ribo-run evaluate RUN                   its scores with intervals, beside the floors
       ribo-run compare RUN_A RUN_B            which of two is better, if the data can tell
       ribo-run plugins                        the plugins found, and why any was refused
       ribo-run inspect [NAME]                 a block, data source, loss ...: its parameters
       ribo-run convert SOURCE DEST --map MAP  weights under another program's names, and back
       ribo-run VERB --help                    the options of a verb

A pipeline is one YAML file: a data source, a model made of blocks, a loss, metrics and a training
recipe. Start with `ribo-run pipelines/mamba_sepcnn.yaml`.
)";

using Verb = int (*)(const ribo::cli::Arguments&);

int run(ribo::cli::Arguments arguments) {
  const std::map<std::string, Verb> verbs = {{"train", ribo::cli::train},
                                             {"check", ribo::cli::check},
                                             {"plugins", ribo::cli::plugins},
                                             {"inspect", ribo::cli::inspect},
                                             {"convert", ribo::cli::convert},
                                             {"predict", ribo::cli::predict},
                                             {"picture", ribo::cli::picture},
                                             {"evaluate", ribo::cli::evaluate},
                                             {"compare", ribo::cli::compare}};
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" ||
      arguments[0] == "help") {
    (arguments.empty() ? std::cerr : std::cout) << kUsage;
    return arguments.empty() ? 2 : 0;
  }
  if (arguments[0] == "--version") {
    std::cout << "ribo-run " << RIBO_VERSION << "\n";
    return 0;
  }
  if (const auto verb = verbs.find(arguments[0]); verb != verbs.end()) {
    arguments.erase(arguments.begin());
    return verb->second(arguments);
  }
  const std::string& word = arguments[0];
  if (word[0] != '-' && word.find('.') == std::string::npos && word.find('/') == std::string::npos &&
      !std::filesystem::exists(word)) {
    std::vector<std::string> names;
    for (const auto& [name, verb] : verbs) names.push_back(name);
    throw ribo::ConfigError(ribo::cat("\"", word, "\" is neither a verb nor a pipeline file",
                                      ribo::did_you_mean(word, names), " (see ribo-run --help)"));
  }
  return ribo::cli::train(arguments);
}

// ${RIBO_DATA} in a pipeline must mean the same whatever folder the pipeline lies in.
void make_data_root_absolute() {
  const char* root = std::getenv("RIBO_DATA");
  if (!root || !*root) return;
  setenv("RIBO_DATA", std::filesystem::absolute(root).lexically_normal().c_str(), 1);
}

}  // namespace

extern "C" RIBO_API int ribo_main(int argc, char** argv) {
  try {
    make_data_root_absolute();
    return run({argv + 1, argv + argc});
  } catch (const ribo::Error& e) {
    ribo::log::error(e.what());
    return e.exit_status();
  } catch (const c10::Error& e) {
    ribo::log::error(e.what_without_backtrace());
    return 1;
  } catch (const std::exception& e) {
    ribo::log::error(e.what());
    return 1;
  } catch (...) {
    ribo::log::error("something was thrown that is no std::exception");
    return 1;
  }
}
