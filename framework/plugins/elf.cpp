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

bool exports(const std::filesystem::path& path, const std::string& symbol) {
  std::ifstream in(path, std::ios::binary);
  // Nothing where it does not lie in the file.
  const auto read = [&](auto& to, uint64_t offset) {
    in.seekg(static_cast<std::streamoff>(offset));
    in.read(reinterpret_cast<char*>(to.data()),
            static_cast<std::streamsize>(to.size() * sizeof to[0]));
    if (!in) to.clear();
  };
  std::vector<Elf64_Ehdr> head(1);
  read(head, 0);
  if (head.empty() || head[0].e_shentsize != sizeof(Elf64_Shdr)) return false;
  std::vector<Elf64_Shdr> sections(head[0].e_shnum);
  read(sections, head[0].e_shoff);
  const uint64_t size = std::filesystem::file_size(path);
  for (const Elf64_Shdr& table : sections) {
    if (table.sh_type != SHT_DYNSYM || table.sh_link >= sections.size()) continue;
    const Elf64_Shdr& text = sections[table.sh_link];
    if (table.sh_size > size || text.sh_size > size) return false;
    std::vector<Elf64_Sym> symbols(table.sh_size / sizeof(Elf64_Sym));
    std::vector<char> names(text.sh_size);
    read(symbols, table.sh_offset);
    read(names, text.sh_offset);
    for (const Elf64_Sym& s : symbols) {
      if (s.st_shndx == SHN_UNDEF || s.st_name >= names.size()) continue;
      const size_t room = names.size() - s.st_name;
      if (symbol.size() < room &&
          std::strncmp(&names[s.st_name], symbol.c_str(), symbol.size() + 1) == 0) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace ribo::plugins
