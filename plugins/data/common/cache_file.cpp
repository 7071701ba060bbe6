// Layout: Header, the key, the size of each section (u64), then the sections; everything but the
// header starts at a multiple of 64 bytes. The checksum covers all that follows it.
#include "common/cache_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "common/hash.h"
#include "ribo/files.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kAlign = 64;
// Read back as another number on a machine of the other byte order.
constexpr uint64_t kMagic = 0x316863616f626972;  // "ribocac1"

struct Header {
  uint64_t magic = kMagic;
  uint64_t checksum = 0;
  uint64_t file_size = 0;
  uint64_t key_size = 0;
  uint64_t sections = 0;
  uint64_t unused[3] = {};
};
static_assert(sizeof(Header) == kAlign);

constexpr uint64_t aligned(uint64_t size) { return (size + kAlign - 1) / kAlign * kAlign; }

// The hash of the header behind its checksum, continued over the pieces that follow.
class Checksum {
 public:
  explicit Checksum(const Header& header)
      : value_(hash64(&header.file_size, sizeof(header) - offsetof(Header, file_size))) {}
  void add(const void* data, size_t size) { value_ = hash64(data, size, value_); }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_;
};

// The whole file in memory, or null.
std::shared_ptr<const std::byte> map_file(const fs::path& path, uint64_t& size) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  struct stat info {};
  void* memory = MAP_FAILED;
  if (::fstat(fd, &info) == 0 && info.st_size > 0) {
    size = static_cast<uint64_t>(info.st_size);
    memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  if (memory == MAP_FAILED) return nullptr;
  ::madvise(memory, size, MADV_WILLNEED);
  return {static_cast<const std::byte*>(memory),
          [size](const std::byte* p) { ::munmap(const_cast<std::byte*>(p), size); }};
}

}  // namespace

CacheState open_cache(const fs::path& path, std::string_view key, Cached& cached) {
  std::error_code ec;
  if (!fs::exists(path, ec)) return CacheState::absent;
  uint64_t size = 0;
  const std::shared_ptr<const std::byte> file = map_file(path, size);
  Header header;
  if (!file || size < sizeof(header)) return CacheState::damaged;
  std::memcpy(&header, file.get(), sizeof(header));
  // Each count is bounded by the file's size before it is used in arithmetic.
  if (header.magic != kMagic || header.file_size != size || header.key_size > size ||
      header.sections > size / sizeof(uint64_t)) {
    return CacheState::damaged;
  }
  const uint64_t table = sizeof(header) + aligned(header.key_size);
  uint64_t at = table + aligned(header.sections * sizeof(uint64_t));
  if (at > size) return CacheState::damaged;
  Checksum checksum(header);
  checksum.add(file.get() + sizeof(header), at - sizeof(header));
  std::vector<Bytes> sections;
  for (uint64_t i = 0; i < header.sections; ++i) {
    uint64_t bytes;
    std::memcpy(&bytes, file.get() + table + i * sizeof(bytes), sizeof(bytes));
    if (bytes > size - at || aligned(bytes) > size - at) return CacheState::damaged;
    checksum.add(file.get() + at, bytes);
    sections.emplace_back(file.get() + at, bytes);
    at += aligned(bytes);
  }
  if (at != size || checksum.value() != header.checksum) return CacheState::damaged;
  if (std::string_view(reinterpret_cast<const char*>(file.get()) + sizeof(header),
                       header.key_size) != key) {
    return CacheState::stale;
  }
  cached = {std::move(sections), file};
  return CacheState::good;
}

void write_cache(const fs::path& path, std::string_view key, const std::vector<Bytes>& sections) {
  std::string front(key);
  front.resize(aligned(key.size()));
  for (const Bytes section : sections) {
    const uint64_t size = section.size();
    front.append(reinterpret_cast<const char*>(&size), sizeof(size));
  }
  front.resize(aligned(front.size()));

  Header header;
  header.key_size = key.size();
  header.sections = sections.size();
  header.file_size = sizeof(header) + front.size();
  for (const Bytes section : sections) header.file_size += aligned(section.size());

  Checksum checksum(header);
  checksum.add(front.data(), front.size());
  std::error_code ec;
  fs::create_directories(path.parent_path(), ec);
  if (ec) throw Error(cat("cannot make ", path.parent_path().string(), ": ", ec.message()));
  for (const Bytes section : sections) checksum.add(section.data(), section.size());
  header.checksum = checksum.value();
  const std::string zeros(kAlign, '\0');
  write_file_atomically(path, [&](const Sink& sink) {
    sink({reinterpret_cast<const char*>(&header), sizeof(header)});
    sink(front);
    for (const Bytes section : sections) {
      sink({reinterpret_cast<const char*>(section.data()), section.size()});
      sink(std::string_view(zeros).substr(0, aligned(section.size()) - section.size()));
    }
  });
}

}  // namespace ribo
