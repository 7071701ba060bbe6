#include "train/checkpoint.h"

#include <gtest/gtest.h>

#include <set>

#include "temp_folder.h"
#include "train/trainer.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

Checkpoint make(int64_t update) {
  Checkpoint c;
  c.state.update = update;
  c.state.epoch = 3;
  c.state.batch = 2;
  c.state.seconds = 12.25;
  c.state.best_value = 0.1;
  c.state.best_update = update - 1;
  c.state.validations_without_better = 1;
  c.state.skipped_updates = 4;
  c.model["blocks.0.weight"] = at::arange(64).to(at::kFloat).view({8, 8});
  c.training["rng.cpu"] = at::arange(16).to(at::kByte);
  return c;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    out.insert(entry.path().filename().string());
  }
  return out;
}

TEST(Checkpoint, GivesBackWhatWasSaved) {
  TempFolder folder;
  const Checkpoint want = make(40);
  const fs::path path = save_checkpoint(folder.path(), want, true);
  EXPECT_EQ(path.filename(), "step-00000040");
  for (const fs::path& way : {path, folder / "last", folder / "best"}) {
    const Checkpoint got = load_checkpoint(way);
    EXPECT_EQ(got.state.update, 40);
    EXPECT_EQ(got.state.epoch, 3);
    EXPECT_EQ(got.state.batch, 2);
    EXPECT_EQ(got.state.seconds, 12.25);
    EXPECT_EQ(got.state.best_value, 0.1);
    EXPECT_EQ(got.state.best_update, 39);
    EXPECT_EQ(got.state.validations_without_better, 1);
    EXPECT_EQ(got.state.skipped_updates, 4);
    EXPECT_TRUE(at::equal(got.model.at("blocks.0.weight"), want.model.at("blocks.0.weight")));
    EXPECT_TRUE(at::equal(got.training.at("rng.cpu"), want.training.at("rng.cpu")));
  }
}

TEST(Checkpoint, TheFolderHoldsTheBestAndTheLastAlone) {
  TempFolder folder;
  save_checkpoint(folder.path(), make(1), true);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"best", "last", "step-00000001"}));
  save_checkpoint(folder.path(), make(2), false);
  save_checkpoint(folder.path(), make(3), false);
  EXPECT_EQ(names_in(folder.path()),
            (std::set<std::string>{"best", "last", "step-00000001", "step-00000003"}));
  EXPECT_EQ(fs::read_symlink(folder / "best"), "step-00000001") << "relative: runs get moved";
  EXPECT_EQ(fs::read_symlink(folder / "last"), "step-00000003");
  save_checkpoint(folder.path(), make(4), true);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"best", "last", "step-00000004"}));
}

TEST(Checkpoint, MayComeByTheSameUpdateTwice) {
  TempFolder folder;
  save_checkpoint(folder.path(), make(1), true);
  Checkpoint again = make(1);
  again.state.seconds = 99;
  save_checkpoint(folder.path(), again, false);
  EXPECT_EQ(load_checkpoint(folder / "best").state.seconds, 99);
}

TEST(Checkpoint, OtherFilesInTheFolderStay) {
  TempFolder folder;
  write_text(folder / "notes.txt", "mine");
  save_checkpoint(folder.path(), make(1), false);
  save_checkpoint(folder.path(), make(2), false);
  EXPECT_EQ(read_text(folder / "notes.txt"), "mine");
}

TEST(Checkpoint, AFlippedBitIsRefusedByTheFilesName) {
  for (const std::string file : {"model.safetensors", "training.safetensors", "training.json"}) {
    TempFolder folder;
    const fs::path path = save_checkpoint(folder.path(), make(1), false);
    std::string bytes = read_text(path / file);
    for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ 4);
      write_text(path / file, flipped);
      const std::string what = error_of([&] { load_checkpoint(path); });
      EXPECT_NE(what.find(file), std::string::npos) << what;
    }
    write_text(path / file, bytes);
    load_checkpoint(path);
    fs::remove(path / file);
    EXPECT_THROW(load_checkpoint(path), Error) << file << " is missing";
  }
}

TEST(Checkpoint, AFolderWithoutOneSaysSo) {
  TempFolder folder;
  const std::string what = error_of([&] { load_checkpoint(folder / "last"); });
  EXPECT_NE(what.find((folder / "last").string()), std::string::npos) << what;
}

struct Net : torch::nn::Module {
  Net() {
    register_parameter("a", at::ones({2}));
    register_parameter("b", at::ones({2, 3}));
    register_buffer("c", at::ones({1}));
  }
};

TEST(Weights, EverythingThatDoesNotFitIsListedAndNothingChanged) {
  Net net;
  const std::string what = error_of([&] {
    load_weights(net, {{"a", at::zeros({2})}, {"b", at::zeros({3, 2})}, {"d", at::zeros({1})}});
  });
  EXPECT_NE(what.find("missing: c"), std::string::npos) << what;
  EXPECT_NE(what.find("b: shape [3, 2] instead of [2, 3]"), std::string::npos) << what;
  EXPECT_NE(what.find("not in this model: d"), std::string::npos) << what;
  EXPECT_TRUE(net.named_parameters()["a"].eq(1).all().item<bool>());

  load_weights(net, {{"a", at::zeros({2})}, {"b", at::zeros({2, 3})}, {"c", at::zeros({1})}});
  EXPECT_TRUE(net.named_parameters()["a"].eq(0).all().item<bool>());
  EXPECT_TRUE(net.named_buffers()["c"].eq(0).all().item<bool>());
}

}  // namespace
}  // namespace ribo
