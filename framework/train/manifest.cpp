#include "train/manifest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "ribo/files.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* manifest_name = "manifest.json";

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).generic_string();
      if (entry.is_regular_file() && name != manifest_name) names.push_back(name);
    }
  } catch (const fs::filesystem_error& e) {
    throw Error(cat("cannot list ", folder.string(), ": ", e.code().message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

uint64_t size_of(const fs::path& path) {
  std::error_code ec;
  const uint64_t size = fs::file_size(path, ec);
  if (ec) throw Error(cat("cannot read ", path.string(), ": ", ec.message()));
  return size;
}

// A manifest from elsewhere must not make us read outside its folder.
bool stays_inside(const fs::path& name) {
  if (name.empty() || name.is_absolute()) return false;
  return std::none_of(name.begin(), name.end(), [](const fs::path& part) { return part == ".."; });
}

// "" or what is wrong with the file.
std::string compare(const fs::path& path, const json& expected) {
  std::error_code ec;
  if (!fs::is_regular_file(path, ec)) return "is missing";
  const auto bytes = expected.at("bytes").get<uint64_t>();
  const uint64_t size = size_of(path);
  if (size != bytes) {
    return cat("is too ", size < bytes ? "short" : "long", " (", size, " bytes instead of ", bytes,
               ")");
  }
  if (sha256_hex(path) != expected.at("sha256").get<std::string>()) {
    return "has changed (its SHA-256 differs)";
  }
  return "";
}

}  // namespace

std::string sha256_hex(const fs::path& path) {
  const auto fail = [&] {
    throw Error(cat("cannot read ", path.string(), ": ", std::strerror(errno)));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             &std::fclose);
  if (!file) fail();
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  bool ok = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::string buffer(size_t{1} << 20, '\0');
  while (ok) {
    const size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (std::ferror(file.get())) fail();
    if (n == 0) break;
    ok = EVP_DigestUpdate(context.get(), buffer.data(), n) == 1;
  }
  std::array<unsigned char, 32> digest{};
  if (!ok || EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) {
    throw Error(cat("cannot compute the SHA-256 of ", path.string(), ": OpenSSL failed"));
  }
  std::string hex;
  for (const unsigned char byte : digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

void write_manifest(const fs::path& folder) {
  json files = json::object();
  for (const std::string& name : files_below(folder)) {
    files[name] = {{"bytes", size_of(folder / name)}, {"sha256", sha256_hex(folder / name)}};
  }
  std::string text;
  try {
    text = json{{"files", files}}.dump(2) + "\n";
  } catch (const json::exception&) {
    throw Error(cat("cannot write ", (folder / manifest_name).string(),
                    ": a file name in the folder is not UTF-8"));
  }
  write_file_atomically(folder / manifest_name, text);
}

void verify_manifest(const fs::path& folder) {
  const fs::path path = folder / manifest_name;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(cat(folder.string(), " is not complete: ", manifest_name, " is missing"));
  std::string problems;
  try {
    const json manifest = json::parse(in);
    const json& files = manifest.at("files");
    if (!files.is_object()) throw Error(cat(path.string(), " is damaged: `files` is not a map"));
    for (const auto& [name, expected] : files.items()) {
      if (!stays_inside(name)) {
        throw Error(cat(path.string(), " names a file outside its folder: ", name));
      }
      const std::string problem = compare(folder / name, expected);
      if (!problem.empty()) problems += cat("\n  ", name, " ", problem);
    }
  } catch (const json::exception& e) {
    throw Error(cat(path.string(), " is damaged: ", e.what()));
  }
  if (!problems.empty()) throw Error(cat(folder.string(), " is damaged:", problems));
}

}  // namespace ribo
