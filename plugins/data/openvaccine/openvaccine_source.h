// The data source `openvaccine`: reactivity and degradation profiles of mRNA fragments.
#pragma once

#include <map>

#include "openvaccine/row_reader.h"
#include "ribo/data.h"

namespace ribo {

class OpenVaccineSource final : public DataSource {
 public:
  struct Options {
    std::vector<std::string> train, valid, test;
    double valid_fraction = 0.1;
    int64_t split_seed = 0;
    bool train_require_sn_filter = true;
    bool valid_require_sn_filter = true;
    std::vector<double> clip;
  };
  static Schema<Options> schema();

  OpenVaccineSource(const Options& options, const DataContext& context);

  std::vector<StreamSpec> streams() const override;
  std::shared_ptr<const Split> split(std::string_view name) const override;
  std::vector<std::string> report() const override { return report_; }

 private:
  void add_split(const std::string& name, std::vector<OpenVaccineRow> rows, size_t read,
                 const std::string& remedy);

  Options options_;
  std::map<std::string, std::shared_ptr<const Split>, std::less<>> splits_;
  std::map<std::string, std::vector<uint64_t>, std::less<>> hashes_;  // of their sequences
  std::vector<std::string> report_;
};

}  // namespace ribo
