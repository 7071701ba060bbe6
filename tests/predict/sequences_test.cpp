#include "predict/sequences.h"

#include <gmock/gmock.h>

#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::error_of;
using testing::TempFolder;

class SequenceFiles : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    testing::write_text(temp_ / name, text);
    return temp_ / name;
  }
  // "id:LETTERS id:LETTERS"
  std::string read(const std::string& name, const std::string& text) {
    std::string out;
    for (const InputSequence& s : read_sequences(file(name, text))) {
      out += cat(out.empty() ? "" : " ", s.id, ":", s.letters);
    }
    return out;
  }
  // What is said behind the path.
  std::string failure(const std::string& name, const std::string& text) {
    const std::string path = file(name, text);
    const std::string message = error_of([&] { read_sequences(path); });
    EXPECT_TRUE(message.starts_with(path)) << message;
    return message.substr(std::min(path.size(), message.size()));
  }
  TempFolder temp_;
};

TEST_F(SequenceFiles, FastaAsPeopleWriteIt) {
  EXPECT_EQ(read("a.fa", ">a\nACGU\n>b\nGG\n"), "a:ACGU b:GG");
  EXPECT_EQ(read("a.fa", ">a what it is\nacgt\nNNn\n"), "a:ACGUNNN") << "lower case, T, N, lines";
  EXPECT_EQ(read("a.fa", "\n\n> a\r\nAC GU\r\n\r\n\tGG\r\n\r\n>b\r\nU"), "a:ACGUGG b:U");
  EXPECT_EQ(read("a.fa", "\xEF\xBB\xBF>a\nACGU"), "a:ACGU");
  const std::string genome(10'000, 'G');
  EXPECT_EQ(read("a.fa", ">long\n" + genome), "long:" + genome);
}

TEST_F(SequenceFiles, FastaErrorsNameTheirPlace) {
  EXPECT_EQ(failure("a.fa", ">a\n>b\nACGU\n"),
            ":1: the record `a` has no sequence; remove it, or give its letters on the next line");
  EXPECT_THAT(failure("a.fa", ">a\nACGU\n>b\n\n"), HasSubstr(":3: the record `b` has no sequence"));
  EXPECT_THAT(failure("a.fa", ">a\nACGU\n>\nACGU\n"), HasSubstr(":3: the id is empty"));
  EXPECT_THAT(failure("a.fa", "ACGU\n"), HasSubstr(":1: letters before the first record"));
  EXPECT_THAT(failure("a.fa", ">a\nACGU\n\n>a\nGG\n"),
              HasSubstr(":4: the id `a` stands already on line 1"));
  EXPECT_THAT(failure("a.fa", ">a\nACGU\nAC GR\n"),
              HasSubstr(":3:5: `a`: `R` (A or G in IUPAC's code) at position 8 of the sequence"));
  EXPECT_THAT(failure("a.fa", ">a\nA\xCE\xA8\n"), HasSubstr(":2:2: `a`: `\xCE\xA8` at position 2"));
  EXPECT_THAT(failure("a.fa", ">a\nAC-GU\n"), EndsWith("remove the gaps"));
  EXPECT_THAT(failure("a.fa", ""), HasSubstr(":1: there is no sequence in it"));
  EXPECT_THAT(failure("a.fa", "\n\n"), HasSubstr("there is no sequence in it"));
}

TEST_F(SequenceFiles, CsvByTheNamesOfItsColumns) {
  EXPECT_EQ(read("a.csv", "sequence,id\nacgt,x\nGG,y\n"), "x:ACGU y:GG");
  EXPECT_EQ(read("a.csv", "target_id,note,sequence\r\nR1,\"two\r\nlines, and a comma\",AC\r\n"),
            "R1:AC");
  const auto rows = read_sequences(file("test.csv",
                                        "id_min,id_max,sequence_id,sequence,future\n"
                                        "4,7,b,ACGU,0\n0,1,a,GG,1\n"));
  EXPECT_EQ(rows[0].first_row, 4);
  EXPECT_EQ(rows[1].first_row, 0);
}

TEST_F(SequenceFiles, CsvErrorsNameTheirPlace) {
  EXPECT_EQ(failure("a.csv", "sequense,id\nA,1\n"),
            ":1: there is no column `sequence`; did you mean \"sequense\"? the columns are: sequense, "
            "id");
  EXPECT_EQ(failure("a.csv", "rna,id\nA,1\n"),
            ":1: there is no column `sequence`; the columns are: rna, id");
  EXPECT_THAT(failure("a.csv", "sequence,name\nA,1\n"),
              HasSubstr("no column `sequence_id` or `id` or `target_id`"));
  EXPECT_THAT(failure("a.csv", "id,note,sequence\nx,\"a\nb\",ACX\n"),
              HasSubstr(":3: `X` at position 3"));
  EXPECT_THAT(failure("a.csv", "id,sequence\nx,\n"), HasSubstr(":2: the sequence is empty"));
  EXPECT_THAT(failure("a.csv", "id,sequence\n,A\n"), HasSubstr(":2: the id is empty"));
  EXPECT_THAT(failure("a.csv", "id,sequence\nx,A\nx,A\n"), HasSubstr(":3: the id `x` stands already"));
  EXPECT_THAT(failure("a.csv", "id,sequence\n"), HasSubstr("there is no sequence in it"));
  EXPECT_THAT(failure("a.csv", "id,sequence,id_min,id_max\nx,ACGU,0,2\n"),
              HasSubstr(":2: id_min and id_max are not as far apart as the sequence is long (4)"));
  EXPECT_THAT(failure("a.csv", "id,sequence,id_min\nx,ACGU,one\n"),
              HasSubstr(":2: `one` is no row number"));
}

TEST_F(SequenceFiles, JsonLines) {
  EXPECT_EQ(read("a.json", "{\"id\": \"x\", \"sequence\": \"acgt\", \"seq_scored\": 2}\r\n\n"
                           "{\"seq_id\": \"y\", \"sequence\": \"GG\"}"),
            "x:ACGU y:GG");
  EXPECT_EQ(failure("a.json", "{\"id\": \"x\", \"sequense\": \"A\"}\n"),
            ":1: the key `sequence` is missing; did you mean \"sequense\"? the keys are: id, sequense");
  EXPECT_THAT(failure("a.json", "{\"id\": 3, \"sequence\": \"A\"}\n"),
              HasSubstr("`id` must be a text"));
  EXPECT_THAT(failure("a.json", "{\"id\": \"x\", \"sequence\": \"\"}\n"), HasSubstr("not empty"));
  EXPECT_THAT(failure("a.json", "\n{\"id\": \"x\",\n"), HasSubstr(":2: not valid JSON at column"));
  EXPECT_THAT(failure("a.json", "[1, 2]\n"), HasSubstr("not a JSON object"));
}

TEST_F(SequenceFiles, TheContentTellsTheFormatWhereTheNameDoesNot) {
  EXPECT_EQ(read("a.txt", "\n>a\nAC\n"), "a:AC");
  EXPECT_EQ(read("b", "{\"id\": \"x\", \"sequence\": \"A\"}\n"), "x:A");
  EXPECT_EQ(read("c.txt", "id,sequence\nx,A\n"), "x:A");
  EXPECT_THAT(failure("d.txt", "ACGU\nACGU\n"), EndsWith("say which it is with --format"));
  EXPECT_THAT(failure("e.fa.gz", "\x1F\x8B\x08rest"), HasSubstr("unpack it first"));
  EXPECT_THAT(failure("f.csv", "\xFF\xFEi\r"), HasSubstr("UTF-16"));
  const std::string odd = file("g.dat", ">a\nAC\n");
  EXPECT_THAT(error_of([&] { read_sequences(odd, sequence_format("json")); }),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of([] { sequence_format("fastq"); }), HasSubstr("say auto, fasta, csv or json"));
  EXPECT_THAT(error_of([&] { read_sequences(temp_ / "none.fa"); }),
              HasSubstr("none.fa: No such file or directory"));
  EXPECT_THAT(error_of([&] { read_sequences(temp_.path()); }), HasSubstr("Is a directory"));
}

}  // namespace
}  // namespace ribo
