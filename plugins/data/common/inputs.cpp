#include "common/inputs.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ribo/error.h"

namespace ribo {

namespace fs = std::filesystem;

Paths find_inputs(const std::vector<std::string>& names, const fs::path& base,
                  const std::string& key) {
  Paths files;
  for (const std::string& name : names) {
    const fs::path path = (base / name).lexically_normal();  // an absolute name replaces `base`
    std::error_code ec;
    if (fs::is_directory(path, ec)) {
      throw Error(cat("data.", key, ": ", path.string(), " is a folder; name the file in it"));
    }
    if (::access(path.c_str(), R_OK) != 0) {
      throw Error(cat("data.", key, ": cannot read ", path.string(), ": ", std::strerror(errno),
                      "; relative names start at ", base.string()));
    }
    files.push_back(path);
  }
  return files;
}

std::string describe_inputs(const Paths& files) {
  std::string text;
  for (const fs::path& path : files) {
    try {
      text += cat(fs::absolute(path).string(), "\n", fs::file_size(path), " bytes, changed ",
                  fs::last_write_time(path).time_since_epoch().count(), "\n");
    } catch (const fs::filesystem_error& e) {
      throw Error(cat("cannot read ", path.string(), ": ", e.code().message()));
    }
  }
  return text;
}

std::string names_of(const Paths& files) {
  std::string text;
  for (const fs::path& path : files) {
    text += (text.empty() ? "" : " + ") + path.filename().string();
  }
  return text;
}

}  // namespace ribo
