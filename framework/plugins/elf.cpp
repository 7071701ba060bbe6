#include "plugins/elf.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "ribo/error.h"

namespace ribo::plugins {

std::string check_elf(const std::filesystem::path& path) {
  std::error_code ec;
  // Opening a pipe would wait for its other end.
  if (!std::filesystem::is_regular_file(path, ec)) return "is not a regular file";
  const uint64_t size = std::filesystem::file_size(path, ec);
  std::ifstream in(path, std::ios::binary);
  if (ec || !in) return cat("cannot be read: ", ec ? ec.message() : std::strerror(errno));

  Elf64_Ehdr head{};
  if (size < sizeof head || !in.read(reinterpret_cast<char*>(&head), sizeof head) ||
      std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
    return "is not a shared library (no ELF header)";
  }
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
      head.e_type != ET_DYN) {
    return "is not a 64-bit shared library";
  }
#if defined(__x86_64__)
  if (head.e_machine != EM_X86_64) return "was built for another processor";
#elif defined(__aarch64__)
  if (head.e_machine != EM_AARCH64) return "was built for another processor";
#endif

  const auto inside = [size](uint64_t offset, uint64_t bytes) {
    return offset <= size && bytes <= size - offset;
  };
  const std::string truncated =
      cat("is truncated or damaged (", size, " bytes); build or copy it again");
  if (head.e_phentsize != sizeof(Elf64_Phdr) ||
      !inside(head.e_shoff, uint64_t{head.e_shnum} * head.e_shentsize) ||
      !inside(head.e_phoff, uint64_t{head.e_phnum} * sizeof(Elf64_Phdr))) {
    return truncated;
  }
  std::vector<Elf64_Phdr> segments(head.e_phnum);
  in.seekg(static_cast<std::streamoff>(head.e_phoff));
  if (!in.read(reinterpret_cast<char*>(segments.data()),
               static_cast<std::streamsize>(segments.size() * sizeof(Elf64_Phdr)))) {
    return truncated;
  }
  for (const Elf64_Phdr& segment : segments) {
    if (!inside(segment.p_offset, segment.p_filesz)) return truncated;
  }
  return "";
}

}  // namespace ribo::plugins
