#include "weights/foreign.h"

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>

#include "train/checkpoint.h"
#include "weights/state_dict.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxPickleBytes = uint64_t{64} << 20;

// The records of an archive of torch.save.
class Archive {
 public:
  explicit Archive(const fs::path& path) : file_bytes_(fs::file_size(path)), reader_(path.string()) {
    if (!reader_.hasRecord("data.pkl")) throw Error("it is a zip archive, but not of torch.save");
    if (!reader_.hasRecord("byteorder")) return;
    const auto [data, size] = record("byteorder");
    if (std::string_view(static_cast<const char*>(data.get()), size) != "little") {
      throw Error("its numbers are not little-endian");
    }
  }
  std::tuple<at::DataPtr, size_t> record(const std::string& name) {
    if (!reader_.hasRecord(name)) throw Error(cat("its record `", name, "` is missing"));
    // torch.save compresses nothing.
    if (reader_.getRecordSize(name) > file_bytes_) {
      throw Error(cat("its record `", name, "` claims to be larger than the file"));
    }
    return reader_.getRecord(name);
  }
  const at::Storage& storage(const std::string& key) {
    at::Storage& storage = storages_[key];
    if (!storage) {
      auto [data, size] = record("data/" + key);
      storage = at::Storage(at::Storage::use_byte_size_t(), size, std::move(data));
    }
    return storage;
  }

 private:
  uint64_t file_bytes_;
  caffe2::serialize::PyTorchStreamReader reader_;
  std::map<std::string, at::Storage> storages_;
};

at::Tensor make_tensor(const PickledTensor& described, Archive& archive) {
  const at::ScalarType type = scalar_type_of(described.dtype);
  at::Tensor out = at::empty({0}, type);
  if (described.elements == 0) return out.reshape(described.shape);
  const at::Storage& storage = archive.storage(described.storage);
  const auto bytes = static_cast<const char*>(storage.data());
  if (storage.nbytes() / out.element_size() < described.elements) {
    throw Error(cat("its storage should have ", described.elements, " elements, but has ",
                    storage.nbytes(), " bytes; the file is damaged"));
  }
  if (type == at::kBool && std::any_of(bytes, bytes + storage.nbytes(),
                                       [](char byte) { return byte != 0 && byte != 1; })) {
    throw Error("is of type bool, but holds a byte that is neither 0 nor 1");
  }
  return out.set_(storage, static_cast<int64_t>(described.offset), described.shape,
                  described.strides);
}

Tensors read_state_dict_file(const fs::path& path) {
  try {
    Archive archive(path);
    const auto [pickle, size] = archive.record("data.pkl");
    if (size > kMaxPickleBytes) throw Error("its pickle is larger than that of any state_dict");
    Tensors out;
    for (const PickledTensor& described :
         read_state_dict({static_cast<const char*>(pickle.get()), size})) {
      try {
        out[described.name] = make_tensor(described, archive);
      } catch (const Error& e) {
        throw Error(cat("tensor `", described.name, "`: ", e.what()));
      }
    }
    return out;
  } catch (const Error& e) {
    throw Error(cat(path.string(), ": ", e.what()));
  } catch (const c10::Error& e) {
    // Its further lines are of LibTorch's own workings.
    const std::string what = e.what_without_backtrace();
    throw Error(cat(path.string(), ": cannot be read as an archive of torch.save: ",
                    what.substr(0, what.find('\n'))));
  }
}

bool is_checkpoint(const fs::path& path) { return fs::exists(path / "model.safetensors"); }

Tensors read_checkpoint(const fs::path& path) {
  for (const fs::path& folder :
       {path, path / "checkpoints" / "best", path / "checkpoints" / "last"}) {
    if (!is_checkpoint(folder)) continue;
    return load_checkpoint_model(folder);
  }
  throw Error(cat(path.string(), ": is neither a run (with checkpoints/best or checkpoints/last) nor "
                  "a checkpoint (with model.safetensors)"));
}

void drop_common_prefix(Tensors& tensors, const std::string& prefix) {
  const auto has = [&](const auto& item) {
    return item.first.size() > prefix.size() && item.first.starts_with(prefix);
  };
  if (!std::all_of(tensors.begin(), tensors.end(), has)) return;
  Tensors shorter;
  for (auto& [name, tensor] : tensors) shorter[name.substr(prefix.size())] = std::move(tensor);
  tensors = std::move(shorter);
}

Tensors read_weights_file(const fs::path& path) {
  std::array<char, 8> start{};
  std::ifstream in(path, std::ios::binary);
  in.read(start.data(), start.size());
  const std::string_view bytes(start.data(), static_cast<size_t>(in.gcount()));
  if (bytes.starts_with("PK")) return read_state_dict_file(path);
  if (bytes.starts_with("\x80\x02") && bytes.size() == start.size() && start[7] != 0) {
    throw Error(cat(path.string(), ": is a pickle without an archive around it, as PyTorch wrote "
                    "before 1.6; load and save it again with a newer one"));
  }
  return read_safetensors(path);
}

}  // namespace

Tensors read_weights(const fs::path& path) {
  std::error_code ec;
  Tensors out = fs::is_directory(path, ec) ? read_checkpoint(path) : read_weights_file(path);
  for (const char* prefix : {"module.", "_orig_mod.", "module."}) drop_common_prefix(out, prefix);
  return out;
}

}  // namespace ribo
