#include "ribo/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

namespace ribo {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* action, const fs::path& path, int error) {
  throw Error(cat("cannot ", action, " ", path.string(), ": ", std::strerror(error)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_retrying(const fs::path& path, int flags) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

// Removes the temporary file unless it has become the real one.
struct Temporary {
  fs::path path;
  bool renamed = false;
  ~Temporary() {
    if (!renamed) ::unlink(path.c_str());
  }
};

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

Reading read_file(const fs::path& path) {
  const bool is_standard = path == "-";
  const fs::path name = is_standard ? "standard input" : path;
  const auto file =
      std::make_shared<Descriptor>(is_standard ? ::dup(STDIN_FILENO) : open_retrying(path, O_RDONLY));
  if (file->get() < 0) fail("read", name, errno);
  ::posix_fadvise(file->get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return [file, name](char* buffer, size_t size) {
    ssize_t n;
    do {
      n = ::read(file->get(), buffer, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0) fail("read", name, errno);
    return static_cast<size_t>(n);
  };
}

void write_file_atomically(const fs::path& path, const std::function<void(const Sink&)>& writer) {
  static std::atomic<unsigned> counter{0};
  const std::string name =
      cat(".", path.filename().string(), ".tmp-", ::getpid(), "-", counter.fetch_add(1));
  Descriptor file(open_retrying(folder_of(path) / name, O_WRONLY | O_CREAT | O_EXCL));
  if (file.get() < 0) fail("write", path, errno);
  Temporary temporary{folder_of(path) / name};

  writer([&](std::string_view piece) {
    while (!piece.empty()) {
      const ssize_t n = ::write(file.get(), piece.data(), piece.size());
      if (n < 0 && errno != EINTR) fail("write", path, errno);
      if (n > 0) piece.remove_prefix(static_cast<size_t>(n));
    }
  });

  // After a failed fsync the kernel may have dropped the pages and report success the next time.
  if (::fsync(file.get()) != 0) fail("write", path, errno);
  // NFS and quotas may refuse as late as here.
  if (::close(file.release()) != 0 && errno != EINTR) fail("write", path, errno);
  if (::rename(temporary.path.c_str(), path.c_str()) != 0) fail("write", path, errno);
  temporary.renamed = true;
  sync_folder(folder_of(path));
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_file_atomically(path, [content](const Sink& sink) { sink(content); });
}

void sync_folder(const fs::path& folder) {
  Descriptor directory(open_retrying(folder, O_RDONLY | O_DIRECTORY));
  if (directory.get() < 0) fail("open", folder, errno);
  // Some network and FUSE file systems have no fsync for folders and say so with EINVAL.
  if (::fsync(directory.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail("write to", folder, errno);
  }
}

fs::path cache_folder() {
  if (const char* own = std::getenv("RIBO_CACHE"); own && *own) return own;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "ribo";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache/ribo";
  return fs::temp_directory_path() / "ribo-cache";
}

}  // namespace ribo
