// The data source `ribonanza`: sequences with their 2A3 and DMS reactivity profiles.
#pragma once

#include <map>
#include <optional>

#include "ribo/data.h"
#include "ribonanza/selection.h"

namespace ribo {

class RibonanzaSource final : public DataSource {
 public:
  struct Options {
    std::vector<std::string> train, valid, test;
    std::vector<double> clip = {0, 1};
    double train_min_signal_to_noise = 1.0;
    bool train_require_sn_filter = false;
    bool valid_require_sn_filter = true;
    double valid_fraction = 0;
    bool flip = false;
    std::optional<int64_t> max_length;
    std::optional<int64_t> limit;
  };
  static Schema<Options> schema();

  RibonanzaSource(const Options& options, const DataContext& context);

  std::vector<StreamSpec> streams() const override;
  std::shared_ptr<const Split> split(std::string_view name) const override;
  std::vector<std::string> report() const override { return report_; }

 private:
  void add_split(const std::string& name, const ProfileTable& table, const SelectionRules& rules,
                 const std::string& remedy);

  Options options_;
  std::map<std::string, std::shared_ptr<const Split>, std::less<>> splits_;
  std::map<std::string, std::vector<uint64_t>, std::less<>> hashes_;  // of their sequences
  std::vector<std::string> report_;
};

}  // namespace ribo
