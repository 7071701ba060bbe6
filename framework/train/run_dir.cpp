#include "train/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>
#include <utility>

namespace ribo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view pattern = "dddd-dd-dd_dd-dd-dd";

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&time, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d_%H-%M-%S", &local);
  return text;
}

// The time and the number after it (1 without one), or nothing if this is no run folder's name.
std::optional<std::pair<std::string, long>> parse(const std::string& name) {
  if (name.size() < pattern.size()) return {};
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool digit = std::isdigit(static_cast<unsigned char>(name[i])) != 0;
    if (pattern[i] == 'd' ? !digit : name[i] != pattern[i]) return {};
  }
  long number = 1;
  if (name.size() > pattern.size()) {
    const char* first = name.data() + pattern.size() + 1;
    const char* last = name.data() + name.size();
    const auto [end, error] = std::from_chars(first, last, number);
    if (name[pattern.size()] != '-' || error != std::errc() || end != last || number < 2) return {};
  }
  return std::pair(name.substr(0, pattern.size()), number);
}

void check(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    throw Error(cat("\"", name, "\" cannot name a run's folder; give a name without `/`"));
  }
}

}  // namespace

fs::path create_run_dir(const fs::path& root, const std::string& name) {
  check(name);
  const fs::path parent = root / name;
  std::error_code ec;
  fs::create_directories(parent, ec);
  if (ec) throw Error(cat("cannot create ", parent.string(), ": ", ec.message()));
  const std::string base = now();
  for (int number = 1;; ++number) {
    const fs::path path = parent / (number == 1 ? base : cat(base, "-", number));
    // mkdir itself is the test for existence: two runs that start at once cannot both succeed.
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST)
      throw Error(cat("cannot create ", path.string(), ": ", std::strerror(errno)));
  }
}

std::vector<fs::path> list_run_dirs(const fs::path& root, const std::string& name) {
  check(name);
  const fs::path parent = root / name;
  std::vector<std::pair<std::pair<std::string, long>, fs::path>> found;
  std::error_code ec;
  if (!fs::exists(parent, ec) && !ec) return {};
  fs::directory_iterator entry(parent, ec);
  for (; !ec && entry != fs::directory_iterator(); entry.increment(ec)) {
    std::error_code gone;
    const auto key = parse(entry->path().filename().string());
    if (key && entry->is_directory(gone)) found.emplace_back(*key, entry->path());
  }
  if (ec) throw Error(cat("cannot list ", parent.string(), ": ", ec.message()));
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  for (auto& [key, path] : found) paths.push_back(std::move(path));
  return paths;
}

RunLock::RunLock(const std::filesystem::path& directory) {
  const std::string path = directory / "lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw Error(cat("cannot write ", path, ": ", std::strerror(errno)));
  held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
}

RunLock::~RunLock() { ::close(fd_); }

}  // namespace ribo
