#include "train/checkpoint.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ribo/files.h"
#include "ribo/version.h"
#include "train/manifest.h"

namespace ribo {
namespace fs = std::filesystem;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainerState, update, epoch, batch, seconds, best_value,
                                   best_update, validated_update, validations_without_better,
                                   skipped_updates)

namespace {

// Replaces a link in one step: there is always one that points somewhere whole.
void point(const fs::path& link, const fs::path& target) {
  const fs::path temporary = link.string() + ".tmp";
  fs::remove(temporary);
  fs::create_directory_symlink(target.filename(), temporary);
  fs::rename(temporary, link);
}

fs::path target_of(const fs::path& link) {
  std::error_code ec;
  const fs::path target = fs::read_symlink(link, ec);
  return ec ? fs::path() : target.filename();
}

void remove_unnamed(const fs::path& folder) {
  const fs::path last = target_of(folder / "last"), best = target_of(folder / "best");
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path name = entry.path().filename();
    if (entry.is_symlink() || name == last || name == best) continue;
    if (name.string().starts_with("step-")) fs::remove_all(entry.path());
  }
}

}  // namespace

fs::path save_checkpoint(const fs::path& folder, const Checkpoint& checkpoint, bool best) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(checkpoint.state.update));
  const fs::path path = folder / name;
  const fs::path temporary = folder / (std::string(name) + ".tmp");
  try {
    fs::remove_all(temporary);
    fs::create_directories(temporary);
    write_safetensors(temporary / "model.safetensors", checkpoint.model,
                      {{"ribo_version", RIBO_VERSION}, {"update", cat(checkpoint.state.update)}});
    write_safetensors(temporary / "training.safetensors", checkpoint.training);
    write_file_atomically(temporary / "training.json",
                          nlohmann::json(checkpoint.state).dump(2) + "\n");
    write_manifest(temporary);
    // A resumed run may come by an update again; the old folder goes when the new one is there.
    const fs::path old = path.string() + ".old";
    if (fs::exists(path)) fs::rename(path, old);
    fs::rename(temporary, path);
    sync_folder(folder);
    // `best` first: after a crash in between, going on from the older `last` finds it again.
    if (best) point(folder / "best", path);
    point(folder / "last", path);
    sync_folder(folder);
    remove_unnamed(folder);
  } catch (const fs::filesystem_error& e) {
    std::error_code ec;
    fs::remove_all(temporary, ec);
    throw Error(cat("cannot write the checkpoint ", path.string(), ": ", e.code().message()));
  } catch (...) {
    std::error_code ec;
    fs::remove_all(temporary, ec);
    throw;
  }
  return path;
}

Checkpoint load_checkpoint(const fs::path& path) {
  verify_manifest(path);
  Checkpoint out;
  try {
    std::ifstream in(path / "training.json");
    out.state = nlohmann::json::parse(in).get<TrainerState>();
  } catch (const nlohmann::json::exception& e) {
    throw Error(cat((path / "training.json").string(), ": ", e.what()));
  }
  out.model = read_safetensors(path / "model.safetensors");
  out.training = read_safetensors(path / "training.safetensors");
  return out;
}

Tensors load_checkpoint_model(const fs::path& path) {
  verify_manifest(path);
  return read_safetensors(path / "model.safetensors");
}

}  // namespace ribo
