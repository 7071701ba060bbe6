// Reads the event files back byte by byte, without the code that wrote them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "temp_folder.h"
#include "train/observers.h"
#include "train/tfrecord.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;
using testing::write_text;

uint32_t crc32c(const std::string& data) {
  uint32_t crc = ~0u;
  for (const char byte : data) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

template <class T>
T take(std::string& bytes) {
  T value{};
  if (bytes.size() < sizeof value) throw std::runtime_error("the bytes end too soon");
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.erase(0, sizeof value);
  return value;
}

std::string take_masked(std::string& file, size_t size) {
  const std::string data = file.substr(0, size);
  file.erase(0, size);
  const uint32_t crc = crc32c(data);
  EXPECT_EQ(take<uint32_t>(file), (crc >> 15 | crc << 17) + 0xa282ead8u);
  return data;
}

uint64_t take_varint(std::string& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<unsigned char>(bytes);
    value |= uint64_t{byte & 127u} << shift;
    if (byte < 128) return value;
  }
}

// The fields of a protobuf message: number -> the bytes of each occurrence.
std::multimap<uint64_t, std::string> fields(std::string message) {
  std::multimap<uint64_t, std::string> found;
  while (!message.empty()) {
    const uint64_t key = take_varint(message);
    const std::string rest = message;
    size_t size = 0;
    if ((key & 7) == 0) {
      take_varint(message);
      size = rest.size() - message.size();
      message = rest;
    } else {
      size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : take_varint(message);
    }
    found.emplace(key >> 3, message.substr(0, size));
    message.erase(0, size);
  }
  return found;
}

// Each event as "step: text".
std::vector<std::string> events(const fs::path& path) {
  std::string file = read_text(path);
  std::vector<std::string> found;
  while (!file.empty()) {
    std::string length = take_masked(file, 8);
    const auto event = fields(take_masked(file, take<uint64_t>(length)));
    std::string step = event.count(2) ? event.find(2)->second : std::string(1, '\0');
    std::string text = cat(take_varint(step), ":");
    EXPECT_EQ(event.count(1), 1u) << "no wall time";
    if (event.count(3)) text += " " + event.find(3)->second;
    if (event.count(7))
      text += cat(" session ", int{fields(event.find(7)->second).find(1)->second[0]});
    const auto summary =
        event.count(5) ? fields(event.find(5)->second) : std::multimap<uint64_t, std::string>();
    for (const auto& [number, value] : summary) {
      const auto scalar = fields(value);
      std::string bytes = scalar.find(2)->second;
      text += cat(" ", scalar.find(1)->second, "=", take<float>(bytes));
    }
    found.push_back(text);
  }
  return found;
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(TensorBoard, WritesScalarsWithTheirSteps) {
  TempFolder folder;
  {
    const auto observer = make_tensorboard(folder / "tb");
    observer->on(RunStarted());
    UpdateDone update;
    update.update = 300;
    update.loss = 0.5;
    update.grad_norm = 2;
    update.learning_rate = 0.25;
    observer->on(update);
    ValidationDone validation;
    validation.update = 300;
    validation.loss = 0.75;
    validation.scores = {{"mae", 1.5, {{"mean", 3}, {"3-mer median", 2}}}, {"r", 0.5, {}}};
    observer->on(validation);
  }
  const auto files = files_in(folder / "tb");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].filename().string().rfind("events.out.tfevents.", 0), 0u);
  EXPECT_EQ(events(files[0]), (std::vector<std::string>{
                                  "0: brain.Event:2", "1: session 1",
                                  "300: train/loss=0.5 train/grad_norm=2 train/learning_rate=0.25",
                                  "300: valid/loss=0.75 valid/mae=1.5 valid/mae floor: mean=3 "
                                  "valid/mae floor: 3-mer median=2 valid/r=0.5"}));
}

TEST(TensorBoard, AResumedSessionContinuesInALaterFile) {
  TempFolder folder;
  make_tensorboard(folder.path())->on(RunStarted());
  const auto before = files_in(folder.path());
  RunStarted resumed;
  resumed.resumed_at = 300;
  make_tensorboard(folder.path())->on(resumed);
  const auto after = files_in(folder.path());
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(events(after[1])[1], "301: session 1");
}

TEST(TensorBoard, AFolderThatCannotBeMadeIsAnError) {
  TempFolder folder;
  write_text(folder / "file", "");
  EXPECT_NE(error_of([&] { make_tensorboard(folder / "file"); }).find("file: "), std::string::npos);
}

// The check value of CRC-32C, and the record of an empty string.
TEST(TfRecord, ChecksumsAreThoseOfTheFormat) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  std::string record = tfrecord("");
  std::string length = take_masked(record, 8);
  EXPECT_EQ(take<uint64_t>(length), 0u);
  EXPECT_EQ(take_masked(record, 0), "");
  EXPECT_EQ(record, "");
}

}  // namespace
}  // namespace ribo
