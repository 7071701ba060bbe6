#include "ribo/csv_reader.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/train/temp_folder.h"

namespace ribo {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::write_text;
using Table = std::vector<std::vector<std::string>>;

class CsvReaderTest : public ::testing::Test {
 protected:
  std::filesystem::path file(const std::string& text) {
    write_text(folder_ / "t.csv", text);
    return folder_ / "t.csv";
  }
  Table read(const std::string& text, size_t block = CsvReader::kBlock) {
    CsvReader csv(file(text), block);
    Table table = {csv.header()};
    while (csv.next()) table.emplace_back(csv.fields().begin(), csv.fields().end());
    EXPECT_FALSE(csv.next());
    return table;
  }
  std::string failure(const std::string& text, size_t block = CsvReader::kBlock) {
    const std::string message = error_of([&] { read(text, block); });
    const std::string name = (folder_ / "t.csv").string();
    EXPECT_TRUE(message.starts_with(name)) << message;
    return message.substr(std::min(message.size(), name.size()));
  }
  TempFolder folder_;
};

TEST_F(CsvReaderTest, ReadsWhatSpreadsheetsWrite) {
  const Table expected = {{"a", "b"}, {"1", "x,y"}, {"", "say \"hi\"\nthere"}, {"2", ""}};
  const std::string text = "a,b\n1,\"x,y\"\n,\"say \"\"hi\"\"\nthere\"\n2,\n";
  EXPECT_EQ(read(text), expected);
  EXPECT_EQ(read("\xEF\xBB\xBF" + text), expected) << "byte order mark";
  EXPECT_EQ(read("\"a\",\"b\"\r\n1,\"x,y\"\r\n\r\n,\"say \"\"hi\"\"\nthere\"\r\n2,\r\n\r\n"),
            expected)
      << "CRLF and empty lines";
  EXPECT_EQ(read(text.substr(0, text.size() - 1)), expected) << "no line break at the end";
  EXPECT_EQ(read("a,b\n1,\"q\""), (Table{{"a", "b"}, {"1", "q"}}))
      << "quote at the end of the file";
}

TEST_F(CsvReaderTest, BlockSizeNeverMatters) {
  std::mt19937 random(7);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 60; ++round) {
    std::string text = pick(2) ? "\xEF\xBB\xBF" : "";
    const int columns = 2 + pick(4);
    Table expected;
    for (int row = 0; row <= pick(8); ++row) {
      std::vector<std::string> cells;
      for (int c = 0; c < columns; ++c) {
        std::string cell = row == 0 ? "c" + std::to_string(c) : "";
        for (int k = pick(6); row > 0 && k > 0; --k) cell += "ab,\"\r\n1."[pick(8)];
        cells.push_back(cell);
        if (c > 0) text += ',';
        std::string quoted = "\"";
        for (const char letter : cell) quoted += letter == '"' ? "\"\"" : std::string(1, letter);
        const bool needs = cell.find_first_of(",\"\r\n") != std::string::npos;
        text += needs || pick(4) == 0 ? quoted + '"' : cell;
      }
      expected.push_back(cells);
      text += pick(2) ? "\n" : "\r\n";
    }
    for (const size_t block : {1u, 2u, 3u, 7u, 64u, 1u << 20}) {
      ASSERT_EQ(read(text, block), expected) << "block of " << block << ":\n" << text;
    }
  }
}

TEST_F(CsvReaderTest, ErrorsNameThePhysicalLine) {
  for (const size_t block : {size_t{1}, size_t{5}, CsvReader::kBlock}) {
    EXPECT_EQ(failure("a,b\n1,\"x\ny\"\n\n1,2,3\n", block),
              ":5: 3 fields where the header has 2; every row needs one for each column");
    EXPECT_EQ(failure("a,b\n1,2\n3\n", block).substr(0, 10), ":3: 1 fiel");
    EXPECT_EQ(failure("a,b\n1,2\n\"p\nq\",\"x\n1,2\n", block),
              ":4: a quoted field begins here and never ends; close it with a quote");
    EXPECT_EQ(failure("a,b\n\"x\ny\"z,1\n", block),
              ":3: text follows a closing quote; double the quotes within a quoted field");
  }
  EXPECT_EQ(failure(""), ":1: the file is empty; a header line with column names comes first");
  EXPECT_EQ(failure("a,b,a\n"), ":1: two columns are called `a`; rename one");
  EXPECT_EQ(failure(std::string("PK\x03\x04,x\n")),
            ":1: this is not a table of text; unpack a compressed file first");
}

TEST_F(CsvReaderTest, AFieldBehindDoubledQuotesKnowsItsLine) {
  CsvReader csv(file("a,b,c\n\"x\"\"\ny\",\"\n\n\",bad\n"), 3);
  ASSERT_TRUE(csv.next());
  EXPECT_EQ(csv.fields()[0], "x\"\ny");
  EXPECT_TRUE(error_of([&] { csv.fail_in(2, "wrong"); }).ends_with("t.csv:5: wrong"));
}

TEST_F(CsvReaderTest, SuggestsTheColumnThatWasMeant) {
  CsvReader csv(file("sequense,id\nA,1\n"));
  EXPECT_EQ(csv.require({"sequence_id", "id"}), 1u);
  const std::string message = error_of([&] { csv.require({"sequence"}); });
  EXPECT_NE(message.find(":1: there is no column `sequence`; did you mean"), std::string::npos);
  EXPECT_NE(message.find("sequense\"? the columns are: sequense, id"), std::string::npos);
}

TEST_F(CsvReaderTest, SaysWhyAFileCannotBeRead) {
  EXPECT_TRUE(error_of([&] {
                CsvReader csv(folder_ / "absent.csv");
              }).ends_with("absent.csv: No such file or directory"));
  EXPECT_TRUE(error_of([&] { CsvReader csv(folder_.path()); }).ends_with(": Is a directory"));
}

}  // namespace
}  // namespace ribo
