#include "train/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "ribo/error.h"
#include "ribo/log.h"

namespace ribo {

AppendFile::AppendFile(std::filesystem::path path, bool must_be_new) : path_(std::move(path)) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (must_be_new ? O_EXCL : 0);
  do {
    fd_ = ::open(path_.c_str(), flags, 0666);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) throw Error(cat("cannot write ", path_.string(), ": ", std::strerror(errno)));
}

AppendFile::~AppendFile() {
  flush();
  ::close(fd_);
}

void AppendFile::write(std::string_view record) {
  constexpr size_t enough = 64 << 10;
  buffer_ += record;
  const auto now = std::chrono::steady_clock::now();
  if (buffer_.size() >= enough || now - last_flush_ >= std::chrono::seconds(1)) flush();
}

void AppendFile::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty() && !failed_) {
    const ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n < 0 && errno != EINTR) {
      failed_ = true;
      log::warn(cat("cannot write ", path_.string(), ": ", std::strerror(errno),
                    "; the run goes on without it"));
    }
    if (n > 0) rest.remove_prefix(static_cast<size_t>(n));
  }
  buffer_.clear();
  last_flush_ = std::chrono::steady_clock::now();
}

}  // namespace ribo
