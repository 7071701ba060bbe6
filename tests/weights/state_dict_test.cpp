#include "weights/state_dict.h"

#include <gtest/gtest.h>

#include <random>

#include "pickles.h"
#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using namespace testing;  // the words of a pickle

void expect_refused(const std::string& bytes, const std::string& why) {
  const std::string what = error_of([&] { (void)read_state_dict(bytes); });
  EXPECT_NE(what.find(why), std::string::npos) << what;
}

TEST(StateDict, DescribesItsTensors) {
  HandTensor b{.type = "HalfStorage", .key = "7", .elements = 9, .offset = 4, .shape = {}};
  b.strides = {};
  const auto tensors =
      read_state_dict(pickle(dict({{"a.weight", HandTensor{}.str()}, {"b", b.str()}})));
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a.weight");
  EXPECT_EQ(tensors[0].dtype, "F32");
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(tensors[1].dtype, "F16");
  EXPECT_EQ(tensors[1].storage, "7");
  EXPECT_EQ(tensors[1].elements, 9u);
  EXPECT_EQ(tensors[1].offset, 4u);
}

TEST(StateDict, MayLieUnderAUsualKeyBesideAnything) {
  const std::string plain = dict({{"a", HandTensor{}.str()}});
  for (const char* key : {"model_state_dict", "state_dict", "model"}) {
    const auto tensors = read_state_dict(pickle(
        dict({{"epoch", integer(3)}, {"lr", "G12345678"}, {"optimizer", "](K\1K\2e"}, {key, plain},
              {"none", "N"}})));
    ASSERT_EQ(tensors.size(), 1u) << key;
    EXPECT_EQ(tensors[0].name, "a");
  }
  expect_refused(pickle(dict({{"weights", plain}})), "tensor `weights`: is none");
  expect_refused(pickle(dict({})), "it holds no tensors");
  expect_refused(pickle(HandTensor{}.str()), "no map of names to tensors");
}

TEST(StateDict, NothingOfAForeignProgramIsRun) {
  expect_refused(pickle(global("os", "system") + tuple({text("touch /tmp/owned")}) + "R"),
                 "asks for `os.system`, which is no part of a state_dict; nothing of it was run");
  expect_refused(pickle(text("posix") + text("system") + "\x93" + tuple({text("id")}) + "R"),
                 "`posix.system`");
  expect_refused(pickle(dict({{"a", global("__builtin__", "eval")}})), "`__builtin__.eval`");
  expect_refused(pickle(dict({{"a", global("torch", "load")}})), "`torch.load`");
  expect_refused(pickle(global("torch", "FloatStorage") + ")R"), "calls `torch FloatStorage`");
  expect_refused(pickle("(" + text("id") + "ios\nsystem\n"), "the instruction 105");
}

TEST(StateDict, EveryTensorLiesInItsStorage) {
  const auto refuse = [](const HandTensor& t, const std::string& why) {
    expect_refused(pickle(dict({{"a", t.str()}})), "tensor `a`: " + why);
  };
  const std::string beyond = "its shape reaches beyond its storage";
  refuse({.elements = 5}, beyond);
  refuse({.offset = 1}, beyond);
  refuse({.elements = 0}, beyond);
  refuse({.elements = -6}, "it has no storage");
  refuse({.offset = -1}, "its offset is none");
  refuse({.offset = INT64_MAX}, "its strides are too large");
  refuse({.shape = {-2, 3}}, "its shape is none");
  refuse({.strides = {-3, 1}}, "its stride is none");
  refuse({.strides = {1}}, "its shape and its strides");
  refuse({.shape = {INT64_MAX, INT64_MAX}, .strides = {0, 0}}, "its shape is too large");
  refuse({.shape = {2, 3}, .strides = {INT64_MAX, INT64_MAX}}, "its strides are too large");
  refuse({.shape = {1 << 20, 1 << 20}, .strides = {0, 0}}, beyond);
  refuse({.shape = std::vector<int64_t>(65, 1), .strides = std::vector<int64_t>(65, 1)},
         "its shape is too long");
  refuse({.type = "ComplexFloatStorage"}, "its type, `torch ComplexFloatStorage`, is not supported");
  EXPECT_EQ(read_state_dict(pickle(dict({{"a", HandTensor{.shape = {0, 9}}.str()}}))).size(), 1u);
}

TEST(StateDict, ANameComesOnce) {
  const std::string t = HandTensor{}.str();
  expect_refused(pickle(dict({{"a", t}, {"a", t}})), "tensor `a`: comes twice");
}

TEST(StateDict, DamageIsToldAndNeverCrashes) {
  const std::string whole = pickle(dict({{"a.weight", HandTensor{}.str()}, {"b", HandTensor{}.str()}}));
  for (size_t n = 0; n < whole.size(); ++n) {
    expect_refused(whole.substr(0, n), "its pickle ends too early");
  }
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = whole;
    for (int changes = 1 + i % 4; changes > 0; --changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      (void)read_state_dict(bytes);  // may be another sound one
    } catch (const Error&) {
    }
  }
}

TEST(StateDict, NeitherDepthNorRepetitionNorALargeNumberHurts) {
  expect_refused(pickle(")" + std::string(1'000'000, '\x85')), "no map of names to tensors");
  expect_refused(pickle(dict({{"a", "\x8d" + std::string(8, '\x7f')}})), "ends too early");
  expect_refused(pickle("]r\xff\xff\xff\xff" "j\xff\xff\xff\x7f"), "recalls a value");
  // One list in itself.
  expect_refused(pickle("]q\x01h\x01" "a"), "no map of names to tensors");
  expect_refused("\x80\x01" ".", "protocol 1");
  expect_refused(pickle("t"), "lacks a mark");
  expect_refused(pickle("(R"), "where there is none");
  expect_refused(pickle("}(K\1u"), "a key without a value");
}

}  // namespace
}  // namespace ribo
