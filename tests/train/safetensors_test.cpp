#include "train/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

constexpr at::ScalarType all_dtypes[] = {at::kDouble, at::kFloat, at::kHalf,  at::kBFloat16,
                                         at::kLong,   at::kInt,   at::kShort, at::kChar,
                                         at::kByte,   at::kBool};

std::string file_with(const std::string& json, const std::string& data = "") {
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + json + data;
}

struct SafetensorsTest : ::testing::Test {
  std::string problem(const std::string& content) {
    write_text(file, content);
    return error_of([&] { read_safetensors(file); });
  }
  TempFolder folder;
  std::filesystem::path file = folder / "x.safetensors";
};

TEST_F(SafetensorsTest, RoundTripOfEveryDtypeShapeAndStride) {
  const std::vector<std::vector<int64_t>> shapes = {{},     {0},       {1},      {7},
                                                    {3, 5}, {2, 0, 4}, {2, 3, 4}};
  for (int round = 0; round < 20; ++round) {
    Tensors tensors;
    for (const at::ScalarType dtype : all_dtypes) {
      for (size_t i = 0; i < shapes.size(); ++i) {
        at::Tensor tensor = at::randint(-100, 100, shapes[i]).to(dtype);
        if (round % 2 == 1 && tensor.dim() > 1) tensor = tensor.transpose(0, 1);
        if (round % 3 == 1 && tensor.dim() == 1) tensor = tensor.slice(0, 0, {}, 2);
        tensors[cat("blocks.", round, ".", c10::toString(dtype), i, " \"ä\"")] = tensor;
      }
    }
    const Metadata metadata = {{"format", "pt"}, {"update", cat(round)}};
    write_safetensors(file, tensors, metadata);
    Metadata read_metadata;
    const Tensors read = read_safetensors(file, &read_metadata);
    EXPECT_EQ(read_metadata, metadata);
    ASSERT_EQ(read.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
      EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(read.at(name), tensor)) << name;
    }
  }
}

TEST_F(SafetensorsTest, NoTensorsAtAll) {
  write_safetensors(file, {});
  EXPECT_TRUE(read_safetensors(file).empty());
}

TEST_F(SafetensorsTest, DataIsAligned) {
  write_safetensors(file, {{"a", at::ones({3}, at::kByte)}, {"b", at::ones({3}, at::kDouble)}});
  const std::string content = read_text(file);
  uint64_t header = 0;
  std::memcpy(&header, content.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  EXPECT_NE(content.find(R"("b":{"dtype":"F64","shape":[3],"data_offsets":[0,24]})"),
            std::string::npos);
}

TEST_F(SafetensorsTest, EveryTruncationIsAnError) {
  write_safetensors(file, {{"a", at::ones({3})}, {"b", at::ones({2, 2}, at::kBool)}});
  const std::string content = read_text(file);
  for (size_t size = 0; size < content.size(); ++size) {
    EXPECT_EQ(problem(content.substr(0, size)).rfind(file.string() + ": ", 0), 0u) << size;
  }
  EXPECT_NE(problem(content + "x").find("its tensors end after 16 of 17 bytes"), std::string::npos);
}

TEST_F(SafetensorsTest, AnyFlippedBitIsAnErrorOrAFileThatReads) {
  write_safetensors(file, {{"a", at::ones({3})}, {"b", at::ones({2, 2}, at::kBool)}});
  const std::string content = read_text(file);
  for (size_t bit = 0; bit < content.size() * 8; ++bit) {
    std::string flipped = content;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_text(file, flipped);
    try {
      read_safetensors(file);
    } catch (const Error&) {
    }
  }
}

TEST_F(SafetensorsTest, CorruptHeadersAreErrorsThatNameTheTensor) {
  const std::string four = "1234";
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return cat(R"({"w":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)", offsets,
               "}}");
  };
  const std::vector<std::tuple<std::string, std::string>> cases = {
      {entry("F32", "[1]", "[0,5]"), "tensor `w`: its bytes 0..5 lie outside the file's 4 bytes"},
      {entry("F32", "[1]", "[4,0]"), "tensor `w`: its bytes 4..0 lie outside"},
      {entry("F32", "[2]", "[0,4]"), "tensor `w`: has 4 bytes, but its shape and dtype need 8"},
      {entry("F8_E4M3", "[4]", "[0,4]"), "tensor `w`: the dtype F8_E4M3 is not supported"},
      {entry("F32", "[-1]", "[0,4]"), "tensor `w`: the shape holds `-1`"},
      {entry("F32", "[1.0]", "[0,4]"), "tensor `w`: the shape holds `1.0`"},
      {entry("F32", "[4294967296,4294967296]", "[0,4]"), "tensor `w`: the shape is too large"},
      {entry("F32", "[0,9223372036854775807]", "[0,0]"), "tensor `w`: the shape is too large"},
      {entry("F32", "[18446744073709551616]", "[0,4]"), "tensor `w`: the shape holds"},
      {entry("F32", "[[1]]", "[0,4]"), "nested too deeply"},
      {entry("F32", "[1]", "[0]"), "tensor `w`: `data_offsets` is not a pair"},
      {entry("F32", "1", "[0,4]"), "tensor `w`: `shape` is missing"},
      {entry("U8", "[3]", "[1,4]"), "tensor `w`: its bytes leave a hole after"},
      {entry("U8", "[3]", "[0,3]"), "its tensors end after 3 of 4 bytes"},
      {entry("BOOL", "[4]", "[0,4]"), "tensor `w`: is BOOL, but holds a byte"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "tensor `b`: its bytes overlap"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       "the name `a` comes twice"},
      {R"({"a":1})", "tensor `a`: is not described by a map"},
      {R"({"__metadata__":{"a":1}})", "`__metadata__.a` is not a string"},
      {"[]", "the header is not a map"},
      {std::string(100000, '['), "nested too deeply"},
      {"", "the header is not valid JSON"},
      {"{\"\xff\":1}", "the header is not valid JSON"}};
  for (const auto& [json, expected] : cases) {
    const std::string said = problem(file_with(json, four));
    EXPECT_NE(said.find(expected), std::string::npos) << said;
    EXPECT_EQ(said.rfind(file.string() + ": ", 0), 0u) << said;
  }
}

TEST_F(SafetensorsTest, AHugeHeaderIsRefusedBeforeItIsRead) {
  std::string content(24, '\xff');
  EXPECT_NE(problem(content).find("its header would have 18446744073709551615 bytes"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_safetensors(folder / "none"); }).find("No such file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_safetensors(folder.path()); }).find("cannot be read"),
            std::string::npos);
}

TEST_F(SafetensorsTest, WhatCannotBeWrittenIsAnErrorAndLeavesTheOldFile) {
  write_safetensors(file, {{"a", at::ones({3})}});
  const std::string content = read_text(file);
  const std::vector<std::pair<Tensors, std::string>> cases = {
      {{{"c", at::ones({1}, at::kComplexFloat)}}, "tensor `c`: its type ComplexFloat has no place"},
      {{{"s", at::eye(2).to_sparse()}}, "tensor `s`: is sparse"},
      {{{"u", at::Tensor()}}, "tensor `u`: is not defined"},
      {{{"m", at::empty({1}, at::TensorOptions(at::kMeta))}}, "tensor `m`: "},
      {{{"__metadata__", at::ones({1})}}, "no tensor may be called `__metadata__`"},
      {{{"\xff", at::ones({1})}}, "not UTF-8"}};
  for (const auto& [tensors, expected] : cases) {
    const std::string said =
        error_of([&, &tensors = tensors] { write_safetensors(file, tensors); });
    EXPECT_NE(said.find(expected), std::string::npos) << said;
    EXPECT_NE(said.find("x.safetensors"), std::string::npos) << said;
  }
  EXPECT_EQ(read_text(file), content);
}

}  // namespace
}  // namespace ribo
