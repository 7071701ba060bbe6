// A look at a shared library's file before the loader maps it.
#pragma once

#include <filesystem>
#include <string>

namespace ribo::plugins {

/// "" if `path` is a whole 64-bit ELF shared library of this machine's kind, otherwise what is
/// wrong with it. dlopen of a truncated file can end in SIGBUS, which nothing can catch, so every
/// segment and the section table (which stands at the end) must lie inside the file.
std::string check_elf(const std::filesystem::path& path);

/// Whether the shared library that check_elf() found whole defines `symbol` for others. Reads the
/// table that the loader uses, which a stripped library still has; runs nothing of it.
bool exports(const std::filesystem::path& path, const std::string& symbol);

}  // namespace ribo::plugins
