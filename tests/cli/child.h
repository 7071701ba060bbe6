// ribo-run as a child process, in a folder of the test's own.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/train/temp_folder.h"

namespace ribo::testing {

struct Outcome {
  int status = -1;  // the exit status; -n where signal n ended it
  std::string out, err;
};

/// Where a child works and what it finds there. The environment is the test's own, but without
/// what would change ribo-run's answers, with a cache folder below `cache`, and with `environment`
/// on top.
struct Place {
  std::filesystem::path directory;
  std::filesystem::path cache;
  std::map<std::string, std::string> environment = {};
  bool unprivileged = false;  // as user nobody where the test is root, whom no permission stops
};

/// A running `ribo-run arguments...`, its output going to files; killed with its process group when
/// it goes out of scope.
class Child {
 public:
  Child(const std::vector<std::string>& arguments, const Place& place);
  Child(const Child&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Waits until it ends; after `limit` the test fails and the child is killed.
  Outcome wait(std::chrono::seconds limit = std::chrono::seconds(120));

 private:
  TempFolder output_;
  pid_t pid_ = -1;
};

/// Runs to the end.
Outcome ribo_run(const std::vector<std::string>& arguments, const Place& place);

/// The words of a command line without quotes: "check a.yaml --set x=1".
std::vector<std::string> words(const std::string& line);

/// Waits until `condition` holds; false after `limit`.
template <class Condition>
bool wait_until(Condition condition, std::chrono::seconds limit = std::chrono::seconds(120)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::usleep(5'000);
  }
  return true;
}

std::string replace_all(std::string text, const std::string& from, const std::string& to);

/// Folders of the build tree: the test plugins' and the built-in ones.
std::filesystem::path test_plugins(const std::string& folder);
std::filesystem::path built_in_plugins();

/// `text` with everything replaced that depends on the machine or the version: the folders above,
/// `folder` (<folder>), the build tag, the version of Ribo.
std::string normalize(std::string text, const std::filesystem::path& folder);

}  // namespace ribo::testing
