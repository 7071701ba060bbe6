// Where a run keeps its files: root/name/YYYY-MM-DD_HH-MM-SS.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ribo/error.h"

namespace ribo {

/// Makes a new folder root/name/YYYY-MM-DD_HH-MM-SS (local time; `-2`, `-3`, ... appended while the
/// name is taken) and returns its path. Two processes never get the same one. `name` is a single
/// path component. Throws Error.
RIBO_API std::filesystem::path create_run_dir(const std::filesystem::path& root,
                                              const std::string& name);

/// The run folders below root/name, newest first by their names; empty if there is none. Other
/// files and folders are passed over. Throws Error if the folder cannot be listed.
RIBO_API std::vector<std::filesystem::path> list_run_dirs(const std::filesystem::path& root,
                                                          const std::string& name);

/// Holds a run's directory for this process, so that no second one trains in it. The lock goes with
/// the object, or with the process however that ends.
class RIBO_API RunLock {
 public:
  /// Tries `directory`/lock; held() tells whether it was free. Throws Error if the file cannot be
  /// made.
  explicit RunLock(const std::filesystem::path& directory);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  bool held() const { return held_; }

 private:
  int fd_ = -1;
  bool held_ = false;
};

}  // namespace ribo
