#include "ribonanza/profile_reader.h"

#include <strings.h>

#include <charconv>
#include <limits>

#include "common/letters.h"
#include "common/parse_number.h"

namespace ribo {
namespace {

constexpr auto kNaN = std::numeric_limits<float>::quiet_NaN();
// What a value and its comma take at least in these files, for reserving memory.
constexpr size_t kBytesPerValue = 6;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

class ProfileReader {
 public:
  ProfileReader(const std::filesystem::path& file, const ReadOptions& options, TableBuilder& out)
      : csv_(file, options.block), out_(out) {
    find_positions();
    id_ = csv_.require({"sequence_id", "id"});
    sequence_ = csv_.require({"sequence"});
    labelled_ = !(options.labels_optional && positions_.empty() &&
                  csv_.find("experiment_type") == CsvReader::kNone);
    if (!labelled_) return;
    experiment_ = csv_.require({"experiment_type"});
    signal_to_noise_ = csv_.require({"signal_to_noise"});
    sn_filter_ = csv_.require({"SN_filter"});
    if (positions_.empty()) positions_.push_back(csv_.require({"reactivity_0001"}));
  }

  void read() {
    bool any = false;
    for (; csv_.next(); any = true) read_row();
    if (!any) csv_.fail("there is no row below the header; give a file with data");
  }

 private:
  // positions_[p] = the column of reactivity_{p+1}.
  void find_positions() {
    static constexpr std::string_view kPrefix = "reactivity_";
    for (size_t column = 0; column < csv_.header().size(); ++column) {
      const std::string_view name = csv_.header()[column];
      if (!name.starts_with(kPrefix)) continue;
      size_t position = 0;
      const auto [end, error] =
          std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), position);
      if (error != std::errc() || end != name.data() + name.size()) continue;  // an error column
      if (position < 1 || position > (size_t{1} << 20)) {
        csv_.fail(cat("column `", name, "`: positions are counted from 1"));
      }
      if (positions_.size() < position) positions_.resize(position, CsvReader::kNone);
      if (positions_[position - 1] != CsvReader::kNone) {
        csv_.fail(cat("`", csv_.header()[positions_[position - 1]], "` and `", name,
                      "` are the same position; remove one"));
      }
      positions_[position - 1] = column;
    }
  }

  void read_row() {
    const std::string_view id = csv_.fields()[id_];
    const std::string_view letters = csv_.fields()[sequence_];
    if (id.empty()) csv_.fail_in(id_, "the id is empty; every row needs the id of its sequence");
    if (letters.empty()) csv_.fail_in(sequence_, "the sequence is empty; remove the row");
    if (const auto bad = encode_letters(letters, tokens_)) {
      csv_.fail_in(sequence_, bad_letter(letters, *bad));
    }
    const uint32_t index = out_.sequence(id, tokens_);
    if (index == TableBuilder::kConflict) {
      csv_.fail_in(id_, cat("`", id,
                            "` is already the id of another sequence; give each sequence "
                            "an id of its own"));
    }
    if (!labelled_) return;
    const size_t experiment = read_experiment();
    read_values();
    out_.profile(index, experiment, values_, static_cast<float>(number(signal_to_noise_)),
                 read_sn_filter());
  }

  bool read_sn_filter() const {
    const std::string_view text = csv_.fields()[sn_filter_];
    for (const char* yes : {"1", "1.0", "true"}) {
      if (equal_ignoring_case(text, yes)) return true;
    }
    for (const char* no : {"0", "0.0", "false"}) {
      if (equal_ignoring_case(text, no)) return false;
    }
    csv_.fail_in(sn_filter_, cat("SN_filter is `", text.substr(0, 40), "`; write 0 or 1"));
  }

  size_t read_experiment() const {
    const std::string_view name = csv_.fields()[experiment_];
    if (equal_ignoring_case(name, "2A3_MaP")) return k2a3;
    if (equal_ignoring_case(name, "DMS_MaP")) return kDms;
    csv_.fail_in(experiment_, cat("experiment_type `", name,
                                  "` is unknown; 2A3_MaP and DMS_MaP are read, remove other rows"));
  }

  void read_values() {
    const size_t length = tokens_.size();
    values_.assign(length, kNaN);
    for (size_t p = 0; p < positions_.size(); ++p) {
      const size_t column = positions_[p];
      if (column == CsvReader::kNone || csv_.fields()[column].empty()) continue;
      const auto value = static_cast<float>(number(column));
      if (p < length) {
        values_[p] = value;
      } else if (value == value) {
        csv_.fail_in(column, cat("`", csv_.header()[column], "` has a value, but the sequence has ",
                                 length, " residues; empty the field"));
      }
    }
  }

  double number(size_t column) const {
    double value;
    const std::string_view text = csv_.fields()[column];
    // A number too large for the float that is kept would become infinite.
    if (!parse_number(text, value) || value > 1e30 || value < -1e30) {
      csv_.fail_in(column, cat("`", text.substr(0, 40), "` in column `", csv_.header()[column],
                               "` is not a number; leave the field empty where nothing was "
                               "measured"));
    }
    return value;
  }

  CsvReader csv_;
  TableBuilder& out_;
  bool labelled_ = true;
  size_t id_ = 0, sequence_ = 0, experiment_ = 0, signal_to_noise_ = 0, sn_filter_ = 0;
  std::vector<size_t> positions_;
  std::vector<uint8_t> tokens_;
  std::vector<float> values_;
};

}  // namespace

ProfileTable read_profiles(const Paths& files, const ReadOptions& options) {
  size_t bytes = 0;
  std::error_code ec;
  for (const auto& file : files) {
    const auto size = std::filesystem::file_size(file, ec);
    if (!ec) bytes += size;
  }
  TableBuilder table(bytes / kBytesPerValue);
  for (const auto& file : files) ProfileReader(file, options, table).read();
  return table.finish();
}

}  // namespace ribo
