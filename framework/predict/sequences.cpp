#include "predict/sequences.h"

#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "config/text.h"
#include "predict/text_input.h"
#include "ribo/config.h"
#include "ribo/csv_reader.h"
#include "ribo/letters.h"

namespace ribo {
namespace {

using Json = nlohmann::json;
using Sequences = std::vector<InputSequence>;

const std::map<std::string, SequenceFormat> kFormats = {{"auto", SequenceFormat::automatic},
                                                        {"fasta", SequenceFormat::fasta},
                                                        {"csv", SequenceFormat::csv},
                                                        {"json", SequenceFormat::json}};
constexpr const char* kBlanks = " \t";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(kBlanks) == std::string_view::npos;
}

// Ids that came, and on which line.
class Ids {
 public:
  /// "" or what is wrong.
  std::string add(const std::string& id, uint64_t line) {
    if (id.empty()) return "the id is empty; every sequence needs one of its own";
    const auto [it, is_new] = lines_.emplace(id, line);
    if (is_new) return "";
    return cat("the id `", id, "` stands already on line ", it->second,
               "; give each sequence an id of its own");
  }

 private:
  std::unordered_map<std::string, uint64_t> lines_;
};

void read_fasta(TextInput& in, Sequences& out) {
  Ids ids;
  uint64_t header = 0;  // the line of the record's name
  const auto end_record = [&] {
    if (header == 0 || !out.back().letters.empty()) return;
    in.fail_at(header, cat("the record `", out.back().id, "` has no sequence; remove it, or give its "
                           "letters on the next line"));
  };
  for (std::string line; in.next_line(line);) {
    if (is_blank(line)) continue;
    if (line[0] == '>') {
      end_record();
      header = in.line();
      const size_t begin = line.find_first_not_of(kBlanks, 1);
      const size_t end = line.find_first_of(kBlanks, begin);
      out.push_back({begin == std::string::npos ? "" : line.substr(begin, end - begin), "", -1});
      if (const std::string wrong = ids.add(out.back().id, header); !wrong.empty()) in.fail(wrong);
      continue;
    }
    if (header == 0) in.fail("letters before the first record; begin it with a line `>its id`");
    std::string& letters = out.back().letters;
    for (size_t column = 0; column < line.size(); ++column) {
      if (line[column] == ' ' || line[column] == '\t') continue;
      std::string letter(1, line[column]);
      if (normalize_letters(letter) == 0) {
        letters.append(line, column, std::string::npos);
        throw Error(cat(in.name(), ":", in.line(), ":", column + 1, ": `", out.back().id, "`: ",
                        bad_letter(letters, letters.size() - (line.size() - column))));
      }
      letters += letter;
    }
  }
  end_record();
}

int64_t read_row_number(const CsvReader& csv, size_t column) {
  const std::string_view text = csv.fields()[column];
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) {
    csv.fail_in(column, cat("`", text, "` is no row number; give 0, 1, 2, ... in `",
                            csv.header()[column], "`"));
  }
  return number;
}

void read_csv(TextInput& in, Sequences& out) {
  CsvReader csv(in.name(), [&](char* buffer, size_t size) { return in.read(buffer, size); });
  const size_t letters = csv.require({"sequence"});
  const size_t id = csv.require({"sequence_id", "id", "target_id"});
  const size_t first = csv.find("id_min"), last = csv.find("id_max");
  Ids ids;
  while (csv.next()) {
    InputSequence row{std::string(csv.fields()[id]), std::string(csv.fields()[letters]), -1};
    if (row.letters.empty()) csv.fail_in(letters, "the sequence is empty; remove the row");
    if (const size_t bad = normalize_letters(row.letters); bad != std::string::npos) {
      csv.fail_in(letters, bad_letter(csv.fields()[letters], bad));
    }
    if (const std::string wrong = ids.add(row.id, csv.line()); !wrong.empty()) csv.fail(wrong);
    if (first != CsvReader::kNone) row.first_row = read_row_number(csv, first);
    if (first != CsvReader::kNone && last != CsvReader::kNone) {
      const auto length = static_cast<int64_t>(row.letters.size());
      if (read_row_number(csv, last) - row.first_row + 1 != length) {
        csv.fail(cat("id_min and id_max are not as far apart as the sequence is long (", length,
                     ")"));
      }
    }
    out.push_back(std::move(row));
  }
}

Json parse_line(const TextInput& in, const std::string& line) {
  Json json;
  try {
    json = Json::parse(line);
  } catch (const Json::parse_error& e) {
    in.fail(cat("not valid JSON at column ", e.byte, "; write one object {...} on each line"));
  } catch (const Json::exception& e) {  // a number beyond every double
    in.fail(cat("not readable: ", e.what()));
  }
  if (!json.is_object()) in.fail("not a JSON object; write one object {...} on each line");
  return json;
}

std::string text_of(const TextInput& in, const Json& json, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    const auto found = json.find(key);
    if (found == json.end()) continue;
    if (!found->is_string() || found->get_ref<const std::string&>().empty()) {
      in.fail(cat("`", key, "` must be a text that is not empty"));
    }
    return found->get<std::string>();
  }
  std::vector<std::string> have;
  for (const auto& item : json.items()) have.push_back(item.key());
  const std::string meant = did_you_mean(keys[0], have);
  in.fail(cat("the key `", keys[0], "` is missing", meant, meant.empty() ? "; " : " ",
              "the keys are: ", join(have)));
}

void read_json(TextInput& in, Sequences& out) {
  Ids ids;
  for (std::string line; in.next_line(line);) {
    if (is_blank(line)) continue;
    const Json json = parse_line(in, line);
    const std::string letters = text_of(in, json, {"sequence"});
    InputSequence row{text_of(in, json, {"id", "seq_id", "sequence_id"}), letters, -1};
    if (const size_t bad = normalize_letters(row.letters); bad != std::string::npos) {
      in.fail(bad_letter(letters, bad));
    }
    if (const std::string wrong = ids.add(row.id, in.line()); !wrong.empty()) in.fail(wrong);
    out.push_back(std::move(row));
  }
}

SequenceFormat format_of(const TextInput& in, const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  for (const char* known : {".fa", ".fasta", ".fna", ".fas"}) {
    if (extension == known) return SequenceFormat::fasta;
  }
  if (extension == ".csv") return SequenceFormat::csv;
  if (extension == ".json" || extension == ".jsonl") return SequenceFormat::json;
  const std::string_view text = in.beginning();
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return SequenceFormat::fasta;  // told as empty
  if (text[first] == '>') return SequenceFormat::fasta;
  if (text[first] == '{') return SequenceFormat::json;
  const std::string_view line = text.substr(first, text.find('\n', first) - first);
  if (line.find(',') != std::string_view::npos) return SequenceFormat::csv;
  throw Error(cat(in.name(), ":1: neither FASTA (>id), nor CSV (a header line with commas), nor JSON "
                  "lines ({...}); say which it is with --format"));
}

}  // namespace

SequenceFormat sequence_format(const std::string& name) {
  if (const auto it = kFormats.find(name); it != kFormats.end()) return it->second;
  throw ConfigError(cat("there is no input format \"", name, "\"; say auto, fasta, csv or json"));
}

std::vector<InputSequence> read_sequences(const std::string& path, SequenceFormat format) {
  TextInput in(path);
  if (format == SequenceFormat::automatic) format = format_of(in, path);
  Sequences out;
  switch (format) {
    case SequenceFormat::csv: read_csv(in, out); break;
    case SequenceFormat::json: read_json(in, out); break;
    default: read_fasta(in, out);
  }
  if (out.empty()) in.fail_at(1, "there is no sequence in it");
  return out;
}

size_t normalize_letters(std::string& letters) {
  for (size_t i = 0; i < letters.size(); ++i) {
    const int64_t token = token_of(letters[i]);
    if (token < 0) return i;
    letters[i] = "ACGUN"[token];
  }
  return std::string::npos;
}

}  // namespace ribo
