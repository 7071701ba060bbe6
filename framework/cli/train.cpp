#include <ATen/Parallel.h>

#include <csignal>
#include <fstream>
#include <iostream>

#include "cli/verbs.h"
#include "ribo/log.h"
#include "ribo/version.h"
#include "train/detach.h"
#include "train/files.h"
#include "train/observers.h"
#include "train/run_dir.h"
#include "train/session.h"
#include "train/signals.h"

namespace ribo::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kUsage =
    "Usage: ribo-run PIPELINE.yaml [options]\n"
    "Trains the model and leaves a run directory: runs/<name>/<time>/ with pipeline.yaml, run.log,\n"
    "metrics.jsonl, TensorBoard events and checkpoints/. Ctrl-C saves and stops; --resume auto goes\n"
    "on. A closed terminal does not end a run.\n";

po::options_description train_options() {
  po::options_description options("Options");
  options.add_options()("pipeline", po::value<std::string>()->required(), "the YAML file")(
      "set", po::value<std::vector<std::string>>()->composing(),
      "a.b[2].c=value: change the pipeline (repeatable)")(
      "print-config", "print the resolved pipeline and exit")(
      "runs", po::value<std::string>()->default_value("runs"), "folder of all runs")(
      "run-dir", po::value<std::string>(), "this run's directory, instead of a new one in --runs")(
      "resume", po::value<std::string>(),
      "auto: go on with the newest unfinished run of this pipeline, or start one; or the directory "
      "of a run or of a checkpoint")("detach", "run in the background, without a terminal");
  return options;
}

fs::path last_checkpoint(const fs::path& run) { return run / "checkpoints" / "last"; }

bool is_finished(const fs::path& run) { return fs::exists(run / "finished"); }

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The run that --resume means; an empty path = start a new one.
fs::path find_resumed(const std::string& what, const fs::path& runs, const Session& session) {
  if (what != "auto") {
    const fs::path given = fs::absolute(what).lexically_normal();
    if (fs::exists(given / "training.json")) return given;  // a checkpoint itself
    if (fs::exists(last_checkpoint(given))) return given;
    throw ConfigError(cat("--resume ", what, ": there is no checkpoint; give a run directory (with "
                          "checkpoints/last), a checkpoint, or auto"));
  }
  for (const fs::path& run : list_run_dirs(runs, session.name())) {
    if (is_finished(run) || !fs::exists(last_checkpoint(run))) continue;
    if (read_text(run / "pipeline.yaml") == to_yaml(session.pipeline().root)) return run;
    log::info(cat("not resuming ", run.string(), ": its pipeline.yaml differs from this pipeline"));
  }
  log::info("nothing to resume; starting a new run");
  return {};
}

void make_given_dir(const fs::path& directory) {
  if (fs::exists(directory / "metrics.jsonl")) {
    throw ConfigError(cat("--run-dir ", directory.string(), ": holds a run already; --resume ",
                          directory.string(), " goes on with it"));
  }
  std::error_code ec;
  fs::create_directories(directory, ec);
  if (!ec && !fs::is_directory(directory)) ec = std::make_error_code(std::errc::not_a_directory);
  if (ec) {
    throw Error(cat("cannot create ", directory.string(), ": ", ec.message(),
                    "; choose a writable folder with --run-dir"));
  }
}

// Starts this command again without a terminal, once it is known to be a sound one.
int start_detached(const Arguments& arguments, const fs::path& directory, bool names_directory) {
  Arguments again = {"ribo-run", "train"};
  for (const std::string& a : arguments) {
    if (a != "--detach") again.push_back(a);
  }
  if (!names_directory) again.insert(again.end(), {"--run-dir", directory.string()});
  const fs::path output = directory / "output.txt";
  const int pid = detach(again, output.string());
  std::cout << "started process " << pid << "\n  run:    " << directory.string()
            << "\n  follow: tail -f " << output.string() << "\n  stop:   kill -INT " << pid << "\n";
  return 0;
}

}  // namespace

int train(const Arguments& arguments) {
  po::variables_map values;
  if (!parse(arguments, kUsage, train_options(), "pipeline", values)) return 0;
  apply_common(values);
  SessionRequest request;
  request.pipeline = values["pipeline"].as<std::string>();
  if (values.count("set")) request.sets = values["set"].as<std::vector<std::string>>();
  request.plugin_path = plugin_path(values);
  Session session(request);
  if (values.count("print-config")) {
    std::cout << to_yaml(session.pipeline().root);
    return 0;
  }

  // What is wrong with the pipeline or its data is told before a run directory is made, and at the
  // terminal even when the run itself goes into the background.
  if (session.options().threads) at::set_num_threads(static_cast<int>(*session.options().threads));
  session.open();
  (void)session.device();

  const fs::path runs = values["runs"].as<std::string>();
  fs::path resumed;
  if (values.count("resume")) {
    resumed = find_resumed(values["resume"].as<std::string>(), runs, session);
  }
  fs::path checkpoint, directory;
  if (!resumed.empty()) {
    const bool is_run = fs::exists(last_checkpoint(resumed));
    checkpoint = fs::canonical(is_run ? last_checkpoint(resumed) : resumed);
    directory = is_run ? resumed : checkpoint.parent_path().parent_path();
  } else if (values.count("run-dir")) {
    directory = values["run-dir"].as<std::string>();
    make_given_dir(directory);
  } else {
    try {
      directory = create_run_dir(runs, session.name());
    } catch (const Error& e) {
      throw Error(cat(e.what(), "; choose a writable folder with --runs"));
    }
  }
  directory = fs::absolute(directory).lexically_normal();
  if (values.count("detach")) return start_detached(arguments, directory, values.count("run-dir"));

  install_run_signals();
  log::add_file((directory / "run.log").string());
  log::info(cat("ribo-run ", RIBO_VERSION, ": ", session.name(), " -> ", directory.string()));
  for (const std::string& note : session.pipeline().notes) log::info(note);
  for (const std::string& line : session.data().report()) log::info(line);
  if (resumed.empty()) {
    write_file_atomically(directory / "pipeline.yaml", to_yaml(session.pipeline().root));
  }

  Training training = session.prepare({});
  training.directory = directory;
  training.observers = {make_progress_bar(), make_metrics_jsonl(directory / "metrics.jsonl"),
                        make_tensorboard(directory)};
  Trainer trainer(std::move(training));
  if (!checkpoint.empty()) {
    trainer.resume(checkpoint);
    log::info(cat("resuming from ", checkpoint.string()));
  }
  const RunFinished result = trainer.run();
  if (result.reason == "interrupted") {
    log::info(cat("saved; go on with: ribo-run ", request.pipeline, " --resume ",
                  directory.string()));
    return 128 + stop_signal();
  }
  write_file_atomically(directory / "finished", result.reason + "\n");
  return 0;
}

}  // namespace ribo::cli
