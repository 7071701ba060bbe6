#include <ATen/Parallel.h>

#include <csignal>
#include <fstream>
#include <iostream>

#include "cli/verbs.h"
#include "ribo/files.h"
#include "ribo/log.h"
#include "ribo/version.h"
#include "train/detach.h"
#include "train/observers.h"
#include "train/run_dir.h"
#include "train/session.h"
#include "train/signals.h"
#include "train/stream_specs.h"

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

struct Place {
  fs::path directory;   // of the run; empty = a new one is to be made
  fs::path checkpoint;  // to go on from; empty = start at the beginning
};

// What `--resume WHAT` names: a run, or a checkpoint in one.
Place find_named(const std::string& what) {
  const fs::path given = fs::absolute(what).lexically_normal();
  std::error_code ec;
  const fs::path checkpoint =
      fs::canonical(fs::exists(given / "training.json") ? given : last_checkpoint(given), ec);
  if (ec || checkpoint.parent_path().filename() != "checkpoints") {
    throw ConfigError(cat("--resume ", what, ": there is no checkpoint of a run; give a run "
                          "directory (with checkpoints/last), a checkpoint in one, or auto"));
  }
  return {checkpoint.parent_path().parent_path(), checkpoint};
}

// The newest of `candidates` that can go on with this very pipeline.
Place find_unfinished(const std::vector<fs::path>& candidates, const Session& session) {
  for (const fs::path& run : candidates) {
    if (is_finished(run) || !fs::exists(last_checkpoint(run))) continue;
    if (read_text(run / "pipeline.yaml") != to_yaml(session.pipeline().root)) {
      log::info(cat("not resuming ", run.string(), ": its pipeline.yaml differs from this one"));
    } else if (!RunLock(run).held()) {
      log::info(cat("not resuming ", run.string(), ": it is still running"));
    } else {
      return find_named(run.string());
    }
  }
  log::info("nothing to resume; starting a new run");
  return {};
}

// What --resume asks for; an empty directory where a new run is to start.
Place find_resumable(const po::variables_map& values, const Session& session) {
  if (!values.count("resume")) return {};
  const std::string what = values["resume"].as<std::string>();
  const bool given = values.count("run-dir") > 0;
  if (what != "auto") {
    if (given) throw ConfigError("--resume and --run-dir name two directories; give one of them");
    return find_named(what);
  }
  if (given) return find_unfinished({values["run-dir"].as<std::string>()}, session);
  return find_unfinished(list_run_dirs(values["runs"].as<std::string>(), session.name()), session);
}

fs::path make_directory(const po::variables_map& values, const Session& session) {
  if (values.count("run-dir")) {
    const fs::path directory = values["run-dir"].as<std::string>();
    make_given_dir(directory);
    return directory;
  }
  try {
    return create_run_dir(values["runs"].as<std::string>(), session.name());
  } catch (const Error& e) {
    throw Error(cat(e.what(), "; choose a writable folder with --runs"));
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
  const SessionRequest request = session_request(values);
  Session session(request);
  if (values.count("print-config")) {
    std::cout << to_yaml(session.pipeline().root);
    return 0;
  }

  // What is wrong with the pipeline or its data is told before a run directory is made, and at the
  // terminal even when the run itself goes into the background.
  std::signal(SIGHUP, SIG_IGN);  // reading a large file must survive a closed terminal, too
  if (session.options().threads) at::set_num_threads(static_cast<int>(*session.options().threads));
  session.open();
  (void)session.device();

  const auto [found, checkpoint] = find_resumable(values, session);
  session.check_weights(!checkpoint.empty());
  const fs::path directory =
      fs::absolute(found.empty() ? make_directory(values, session) : found).lexically_normal();
  if (values.count("detach")) {
    return start_detached(arguments, directory, values.count("run-dir") || !checkpoint.empty());
  }
  const RunLock lock(directory);
  if (!lock.held()) throw Error(cat(directory.string(), ": another process trains in it"));

  install_run_signals();
  log::add_file((directory / "run.log").string());
  log::info(cat("ribo-run ", RIBO_VERSION, ": ", session.name(), " -> ", directory.string()));
  for (const std::string& note : session.pipeline().notes) log::info(note);
  for (const std::string& line : session.data().report()) log::info(line);
  const std::string yaml = to_yaml(session.pipeline().root);
  if (!checkpoint.empty() && read_text(directory / "pipeline.yaml") != yaml) {
    log::warn("the pipeline has changed since this run began; its numbers will not be those of one "
              "run");
  }
  write_file_atomically(directory / "pipeline.yaml", yaml);
  write_stream_specs(directory / "streams.json", session.specs());
  fs::remove(directory / "finished");

  Training training = session.prepare({}, !checkpoint.empty());
  write_floors(directory / "floors.json", training.floor_tables);
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
  log::info(cat(result.reason, " after ", result.update, " updates; best ", result.best_metric, " ",
                result.best_value, " at update ", result.best_update, ": ",
                (directory / "checkpoints" / "best").string()));
  return 0;
}

}  // namespace ribo::cli
