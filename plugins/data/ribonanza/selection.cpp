#include "ribonanza/selection.h"

#include <cmath>

#include "common/hash.h"
#include "ribo/error.h"

namespace ribo {
namespace {

bool passes(const Profile& profile, const SelectionRules& rules) {
  const double quality = std::isnan(profile.signal_to_noise) ? 0 : profile.signal_to_noise;
  return profile.count > 0 && quality >= rules.min_signal_to_noise &&
         (!rules.each_needs_sn_filter || profile.sn_filter);
}

}  // namespace

Selection select(const ProfileTable& table, const SelectionRules& rules) {
  Selection result;
  for (size_t i = 0; i < table.size(); ++i) {
    if (rules.among && !rules.among(i)) continue;
    ++result.considered;
    const SequenceEntry& entry = table[i];
    const auto& [a, b] = entry.profiles;
    if (rules.max_length && entry.length > *rules.max_length) {
      ++result.too_long;
      continue;
    }
    if (rules.both_need_sn_filter && !(a.sn_filter && b.sn_filter)) {
      ++result.without_sn_filter;
      continue;
    }
    const Selected sample = {static_cast<uint32_t>(i), {passes(a, rules), passes(b, rules)}};
    if (rules.needs_profile && !sample.use[k2a3] && !sample.use[kDms]) {
      ++result.without_profile;
      continue;
    }
    if (rules.limit && static_cast<int64_t>(result.samples.size()) >= *rules.limit) {
      ++result.over_limit;
      continue;
    }
    for (size_t e = 0; e < kExperiments; ++e) {
      result.masked += entry.profiles[e].count > 0 && !sample.use[e];
    }
    result.samples.push_back(sample);
  }
  return result;
}

std::string Selection::describe() const {
  std::string dropped;
  const auto note = [&](uint64_t count, const char* what) {
    if (count > 0) dropped += cat(dropped.empty() ? "; dropped: " : ", ", count, " ", what);
  };
  note(too_long, "longer than max_length");
  note(without_sn_filter, "without SN_filter = 1 in both profiles");
  note(without_profile, "without a profile that passes");
  note(over_limit, "over the limit");
  return cat(samples.size(), " of ", considered, " sequences", dropped,
             masked > 0 ? cat("; ", masked, " single profiles left out") : "");
}

uint64_t sequence_hash(const ProfileTable& table, size_t i, uint64_t seed) {
  const auto tokens = table.tokens(i);
  return hash64(tokens.data(), tokens.size(), seed);
}

std::vector<uint64_t> sequence_hashes(const ProfileTable& table, const Selection& selection) {
  std::vector<uint64_t> hashes;
  for (const Selected& s : selection.samples) {
    hashes.push_back(sequence_hash(table, s.sequence, 0));
  }
  return hashes;
}

}  // namespace ribo
