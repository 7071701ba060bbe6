#include "predict/prediction_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/train/temp_folder.h"
#include "train/safetensors_header.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::error_of;
using testing::read_text;
using testing::TempFolder;

const std::vector<InputSequence> kTwo = {{"a,1", "AC", -1}, {"b", "U", -1}};

// The whole file, with 0.5, 1.5, 2.5 ... as the predictions.
std::string text_of(const std::string& format, const std::vector<std::string>& targets,
                    const std::vector<InputSequence>& sequences = kTwo) {
  const auto file = make_prediction_file(prediction_format(format, ""), targets, sequences);
  std::string out = file->begin();
  float next = 0.5;
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::vector<float> values(sequences[i].letters.size() * targets.size());
    for (float& value : values) value = next++;
    out += file->add(i, values);
  }
  return out;
}

TEST(PredictionFiles, Plain) {
  EXPECT_EQ(text_of("plain", {"2a3", "dms"}),
            "id,position,base,2a3,dms\n\"a,1\",1,A,0.5,1.5\n\"a,1\",2,C,2.5,3.5\nb,1,U,4.5,5.5\n");
}

TEST(PredictionFiles, FloatsComeBackAsTheyWere) {
  const auto file = make_prediction_file(PredictionFormat::plain, {"x"}, kTwo);
  const std::vector<float> values = {0.1f, 1.f / 3};
  const std::string text = file->add(0, values);
  EXPECT_EQ(std::strtof(text.c_str() + text.rfind(',') + 1, nullptr), 1.f / 3);
  EXPECT_THAT(text, HasSubstr(",0.1\n"));
}

TEST(PredictionFiles, RibonanzaCountsRowsOverTheWholeInput) {
  EXPECT_EQ(text_of("ribonanza", {"2a3", "dms"}),
            "id,reactivity_DMS_MaP,reactivity_2A3_MaP\n0,1.5,0.5\n1,3.5,2.5\n2,5.5,4.5\n");
  EXPECT_EQ(text_of("ribonanza", {"2a3", "dms"}, {{"a", "AC", 7}, {"b", "U", 3}}),
            "id,reactivity_DMS_MaP,reactivity_2A3_MaP\n7,1.5,0.5\n8,3.5,2.5\n3,5.5,4.5\n");
  EXPECT_THAT(error_of([] { text_of("ribonanza", {"2a3"}); }),
              HasSubstr("needs the targets dms and 2a3; this model predicts 2a3"));
}

TEST(PredictionFiles, OpenVaccineWritesZeroForWhatIsNotPredicted) {
  EXPECT_EQ(text_of("openvaccine", {"deg_Mg_50C", "reactivity"}, {{"id_1", "AC", -1}}),
            "id_seqpos,reactivity,deg_Mg_pH10,deg_pH10,deg_Mg_50C,deg_50C\n"
            "id_1_0,1.5,0,0,0.5,0\nid_1_1,3.5,0,0,2.5,0\n");
  EXPECT_THAT(error_of([] { text_of("openvaccine", {"2a3", "dms"}); }),
              HasSubstr("this model predicts 2a3, dms"));
}

TEST(PredictionFiles, SafetensorsHoldATensorASequence) {
  const std::string text = text_of("safetensors", {"2a3", "dms"});
  uint64_t size = 0;
  std::memcpy(&size, text.data(), 8);
  const auto header =
      parse_safetensors_header(std::string_view(text).substr(8, size), text.size() - 8 - size);
  EXPECT_EQ(header.metadata.at("targets"), "2a3,dms");
  ASSERT_EQ(header.entries.size(), 2u);
  EXPECT_EQ(header.entries[1].name, "b");
  EXPECT_EQ(header.entries[1].shape, (std::vector<int64_t>{1, 2}));
  float value = 0;
  std::memcpy(&value, text.data() + 8 + size + header.entries[1].begin, 4);
  EXPECT_EQ(value, 4.5f);
}

TEST(PredictionFiles, TheExtensionChoosesTheFormat) {
  EXPECT_EQ(prediction_format("auto", "y.safetensors"), PredictionFormat::safetensors);
  EXPECT_EQ(prediction_format("auto", "y.csv"), PredictionFormat::plain);
  EXPECT_EQ(prediction_format("auto", "-"), PredictionFormat::plain);
  EXPECT_EQ(prediction_format("ribonanza", "y.csv"), PredictionFormat::ribonanza);
  EXPECT_THAT(error_of([] { prediction_format("kaggle", "-"); }), HasSubstr("say auto, plain"));
}

TEST(PredictionOutput, AFailureLeavesTheOldFile) {
  const TempFolder temp;
  testing::write_text(temp / "y.csv", "old");
  EXPECT_EQ(error_of([&] {
              write_output(temp / "y.csv", [](const Sink& sink) {
                sink("new");
                throw Error("the model failed");
              });
            }),
            "the model failed");
  EXPECT_EQ(read_text(temp / "y.csv"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), {}), 1) << "a rest is left";
  write_output(temp / "y.csv", [](const Sink& sink) { sink("new"); });
  EXPECT_EQ(read_text(temp / "y.csv"), "new");
}

TEST(PredictionOutput, SaysWhyItCannotWrite) {
  const TempFolder temp;
  const auto write = [](const std::string& path) {
    write_output(path, [](const Sink& sink) { sink("some text"); });
  };
  EXPECT_EQ(error_of([&] { write("/dev/full"); }),
            "cannot write /dev/full: No space left on device");
  EXPECT_THAT(error_of([&] { write(temp.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of([&] { write(temp / "no/folder/y.csv"); }),
              HasSubstr("y.csv: No such file or directory"));
  write("/dev/null");
  EXPECT_TRUE(fs::is_character_file("/dev/null")) << "a device was replaced by a file";
}

TEST(PredictionOutput, AClosedPipeIsToldApart) {
  const TempFolder temp;
  const std::string pipe = temp / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread reader([&] { std::ifstream in(pipe); });  // opens, reads nothing, closes
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_THROW(write_output(pipe,
                            [&](const Sink& sink) {
                              reader.join();
                              sink("nobody reads this");
                            }),
               ClosedPipe);
  std::signal(SIGPIPE, before);
  EXPECT_TRUE(fs::is_fifo(pipe));
}

}  // namespace
}  // namespace ribo
