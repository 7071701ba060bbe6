#include "train/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <utility>

#include "ribo/files.h"
#include "train/safetensors_header.h"

namespace ribo {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::pair<at::ScalarType, const char*> dtypes[] = {
    {at::kDouble, "F64"}, {at::kFloat, "F32"}, {at::kHalf, "F16"},  {at::kBFloat16, "BF16"},
    {at::kLong, "I64"},   {at::kInt, "I32"},   {at::kShort, "I16"}, {at::kChar, "I8"},
    {at::kByte, "U8"},    {at::kBool, "BOOL"}};

std::string to_file(at::ScalarType dtype) {
  for (const auto& [type, name] : dtypes) {
    if (dtype == type) return name;
  }
  throw Error(cat("its type ", c10::toString(dtype), " has no place in a safetensors file"));
}

at::Tensor read_tensor(std::ifstream& in, const SafetensorsEntry& entry) {
  at::Tensor tensor = at::empty(entry.shape, scalar_type_of(entry.dtype));
  const auto bytes = static_cast<std::streamsize>(entry.end - entry.begin);
  auto* data = static_cast<char*>(tensor.data_ptr());
  if (bytes > 0 && !in.read(data, bytes)) throw Error("its bytes cannot be read");
  // Any other byte in a bool is undefined behaviour in every operator that meets it.
  if (tensor.scalar_type() == at::kBool &&
      std::any_of(data, data + bytes, [](char byte) { return byte != 0 && byte != 1; })) {
    throw Error("is BOOL, but holds a byte that is neither 0 nor 1");
  }
  return tensor;
}

SafetensorsHeader read_header(std::ifstream& in, uint64_t file_bytes) {
  uint64_t header_bytes = 0;
  if (file_bytes < 8 || !in.read(reinterpret_cast<char*>(&header_bytes), 8)) {
    throw Error("has no header; it is truncated or not a safetensors file");
  }
  if (header_bytes > max_safetensors_header || header_bytes > file_bytes - 8) {
    throw Error(cat("its header would have ", header_bytes,
                    " bytes; it is truncated or not a safetensors file"));
  }
  std::string text(header_bytes, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(header_bytes))) {
    throw Error("its header cannot be read");
  }
  return parse_safetensors_header(text, file_bytes - 8 - header_bytes);
}

// Runs `action`; errors of ours and of torch leave as one Error that says where.
template <class Action>
auto within(const std::string& place, Action action) {
  try {
    return action();
  } catch (const Error& e) {
    throw Error(cat(place, ": ", e.what()));
  } catch (const c10::Error& e) {
    throw Error(cat(place, ": ", e.what_without_backtrace()));
  }
}

SafetensorsHeader describe(const Tensors& tensors, const Metadata& metadata) {
  SafetensorsHeader header;
  header.metadata = metadata;
  for (const auto& [name, tensor] : tensors) {
    within(cat("tensor `", name, "`"), [&, &name = name, &tensor = tensor] {
      if (!tensor.defined()) throw Error("is not defined");
      if (tensor.layout() != at::kStrided) throw Error("is sparse");
      header.entries.push_back({name, to_file(tensor.scalar_type()), tensor.sizes().vec(), 0, 0});
    });
  }
  const auto size = [](const auto& entry) { return safetensors_element_size(entry.dtype); };
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [&](const auto& a, const auto& b) { return size(a) > size(b); });
  uint64_t position = 0;
  for (SafetensorsEntry& entry : header.entries) {
    entry.begin = position;
    entry.end = position += tensors.at(entry.name).numel() * size(entry);
  }
  return header;
}

}  // namespace

at::ScalarType scalar_type_of(const std::string& dtype) {
  for (const auto& [type, name] : dtypes) {
    if (dtype == name) return type;
  }
  throw Error(cat("the dtype ", dtype, " is not supported"));
}

Tensors read_safetensors(const std::filesystem::path& path, Metadata* metadata) {
  return within(path.string(), [&] {
    std::error_code ec;
    const uint64_t file_bytes = std::filesystem::file_size(path, ec);
    std::ifstream in(path, std::ios::binary);
    if (ec || !in) throw Error(cat("cannot be read: ", ec ? ec.message() : std::strerror(errno)));
    SafetensorsHeader header = read_header(in, file_bytes);
    Tensors tensors;
    for (const SafetensorsEntry& entry : header.entries) {
      tensors.emplace(entry.name, within(cat("tensor `", entry.name, "`"),
                                         [&] { return read_tensor(in, entry); }));
    }
    if (metadata) *metadata = std::move(header.metadata);
    return tensors;
  });
}

void write_safetensors(const std::filesystem::path& path, const Tensors& tensors,
                       const Metadata& metadata) {
  const auto [header, json] = within(path.string(), [&] {
    SafetensorsHeader made = describe(tensors, metadata);
    std::string text = safetensors_header_json(made);
    return std::pair(std::move(made), std::move(text));
  });
  write_file_atomically(path, [&, &header = header, &json = json](const Sink& sink) {
    const uint64_t header_bytes = json.size();
    sink({reinterpret_cast<const char*>(&header_bytes), 8});
    sink(json);
    for (const SafetensorsEntry& entry : header.entries) {
      // One at a time: a copy of every tensor of a model on a GPU may not fit beside the rest.
      const at::Tensor plain = within(cat(path.string(), ": tensor `", entry.name, "`"), [&] {
        return tensors.at(entry.name).detach().cpu().resolve_neg().contiguous();
      });
      if (plain.numel() > 0) {
        sink({static_cast<const char*>(plain.data_ptr()), entry.end - entry.begin});
      }
    }
  });
}

}  // namespace ribo
