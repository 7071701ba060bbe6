// ribo-run picture: a page that stands alone.
#include <gmock/gmock.h>

#include "child.h"
#include "tests/report/xml.h"

namespace ribo::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kModel =
    "model:\n"
    "  streams: {single: 8, pair: 4}\n"
    "  blocks:\n"
    "    - {type: embedding}\n"
    "    - {type: base_pairing}\n"
    "    - {type: outer_product_mean, hidden: 4}\n"
    "    - {type: transformer, heads: 2}\n"
    "    - {type: transformer, heads: 4}\n"
    "    - {type: reactivity_head}\n";

class PictureVerb : public ::testing::Test {
 protected:
  PictureVerb() {
    const std::string good = "extends: " RIBO_SOURCE_DIR "/tests/cli/broken/good.yaml\n";
    write_text(temp_ / "plain.yaml", good);
    write_text(temp_ / "pairs.yaml", good + kModel + "train: {flip_average: true}\n");
    write_text(temp_ / "x.fa", ">a<b>&\nGGGAAACCC\n>second\nacgtnacgtnacgtn\n");
  }
  void train(const std::string& name) {
    const Outcome trained = run(name + ".yaml --run-dir " + name);
    EXPECT_EQ(trained.status, 0) << trained.err;
  }
  Outcome run(const std::string& line) {
    return ribo_run(words(line), {temp_.path(), temp_.path()});
  }
  // The page that `line` writes.
  std::string page(const std::string& line) {
    const Outcome outcome = run("picture " + line + " --out page.html");
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const std::string html = read_text(temp_ / "page.html");
    EXPECT_EQ(xml_error(html), "");
    EXPECT_THAT(html, Not(HasSubstr("://")));
    return html;
  }
  TempFolder temp_;
};

TEST_F(PictureVerb, ShowsEveryPartOfAModelThatHasThemAll) {
  train("pairs");
  std::string html = page("pairs");
  for (const char* id : {"simulated_8", "simulated_9", "simulated_10"}) {
    EXPECT_THAT(html, HasSubstr(std::string("<h2>") + id + "<small>"));
  }
  EXPECT_THAT(html, Not(HasSubstr("simulated_11")));
  for (const char* words : {"Mean absolute error over ", " measured positions: 2A3 ", ", DMS ",
                            "not measured", "the stream bpp", "over the 4 channels of pair[i, j]",
                            "Attention of layer 2 of 2, mean of 4 heads",
                            "the mean of both directions", "Sequences: the validation data."}) {
    EXPECT_THAT(html, HasSubstr(words));
  }
  EXPECT_EQ(count_of(html, "<image"), 3u * (3 * 2 + 4));

  // By id, in the order of the command line, and another layer.
  html = page("pairs --id simulated_11 simulated_8 --layer 1");
  EXPECT_LT(html.find("<h2>simulated_11<"), html.find("<h2>simulated_8<"));
  EXPECT_THAT(html, HasSubstr("Attention of layer 1 of 2, mean of 2 heads"));
  EXPECT_THAT(html, Not(HasSubstr("simulated_9")));

  // Sequences of a file have no measurements.
  html = page("pairs pairs/checkpoints/last --input x.fa");
  EXPECT_THAT(html, HasSubstr("<h2>a&lt;b&gt;&amp;<small>9 nt</small>"));
  EXPECT_THAT(html, HasSubstr("Nothing was measured of this sequence."));
  EXPECT_THAT(html, HasSubstr("of the first model."));
  EXPECT_THAT(html, HasSubstr("<h2>second<small>15 nt"));
  EXPECT_THAT(page("pairs --input x.fa --id second"), Not(HasSubstr("a&lt;b")));
}

TEST_F(PictureVerb, SaysWhatTheModelHasNotAndWhatItWasAskedWrongly) {
  train("plain");
  const std::string html = page("plain --id simulated_9");
  EXPECT_THAT(html, HasSubstr("This model has no pairing probabilities"));
  EXPECT_THAT(html, HasSubstr("This model has no pair track"));
  EXPECT_THAT(html, HasSubstr("the 5&#39;→3&#39; direction"));
  EXPECT_EQ(count_of(html, "<image"), 0u);

  std::string many;
  for (int i = 0; i < 21; ++i) many += ">s" + std::to_string(i) + "\nGGGG\n";
  write_text(temp_ / "many.fa", many);
  const std::tuple<const char*, int, const char*> slips[] = {
      {"picture plain", 2, "say which --out"},
      {"picture plain --id simulated_90 --out y.html", 2,
       "--id simulated_90: there is no such sequence in the validation data; did you mean"},
      {"picture plain --id x --input many.fa --out y.html", 2,
       "in many.fa; there are: s0, s1, s2 and 18"},
      {"picture plain --input many.fa --out y.html", 2,
       "21 sequences of many.fa are too many for a page of 20; choose some by their ids, such as "
       "--id s0 s1"},
      {"picture plain --layer 1 --out y.html", 2, "no block of this model shows its attention"},
      {"picture plain --data x.csv --input many.fa --out y.html", 2, "leave out one of them"},
      {"picture plain --layer 1 --out no/y.html", 1, "no/y.html: No such file or directory"},
      {"picture plain --out /dev/full", 1, "cannot write /dev/full: No space left on device"},
  };
  for (const auto& [line, status, message] : slips) {
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.status, status) << line;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << line;
    EXPECT_EQ(outcome.out, "") << line;
  }
  EXPECT_FALSE(std::filesystem::exists(temp_ / "y.html"));
}

TEST_F(PictureVerb, TakesMeasurementsOfOtherFiles) {
  write_text(temp_ / "train.csv",
             "sequence_id,sequence,experiment_type,signal_to_noise,SN_filter,reactivity_0001,"
             "reactivity_0002,reactivity_0003\nold,ACG,2A3_MaP,5,1,0.5,0.5,0.5\n"
             "old,ACG,DMS_MaP,5,1,0.5,0.5,0.5\n");
  const std::string text = read_text(temp_ / "train.csv");
  write_text(temp_ / "other.csv", replace_all(text, "old,ACG", "new,GGA"));
  write_text(temp_ / "files.yaml",
             "extends: plain.yaml\ndata: {type: ribonanza, train: train.csv, valid: train.csv}\n");
  train("files");
  EXPECT_THAT(page("files"), HasSubstr("<h2>old<small>3 nt"));
  const std::string html = page("files --data other.csv");  // from where ribo-run was started
  EXPECT_THAT(html, HasSubstr("<h2>new<small>3 nt"));
  EXPECT_THAT(html, HasSubstr("over 3 measured positions: 2A3 "));
}

}  // namespace
}  // namespace ribo::testing
