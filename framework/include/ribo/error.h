// The one exception family of the framework. A message is written for the user: what went wrong,
// where, and what to do about it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#define RIBO_API __attribute__((visibility("default")))

namespace ribo {

/// Concatenates the arguments as operator<< prints them.
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

/// Any failure that a user should read. `exit_status()` is what `ribo-run` ends with:
/// 1 = the run or the data failed.
class RIBO_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
  virtual int exit_status() const { return 1; }
};

/// A pipeline or a command line that says something impossible (exit status 2).
class RIBO_API ConfigError : public Error {
 public:
  using Error::Error;
  ~ConfigError() override;
  int exit_status() const override { return 2; }
};

/// A plugin that cannot be loaded, or fails in its own code (exit status 3).
class RIBO_API PluginError : public Error {
 public:
  using Error::Error;
  ~PluginError() override;
  int exit_status() const override { return 3; }
};

}  // namespace ribo
