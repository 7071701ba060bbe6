// One folding on one core: random sequences of several lengths, and with RIBO_DATA those of
// ribonanza/train.csv. Each iteration folds another sequence; the column CPU is the one to read.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "folding/partition_function.h"

namespace {

std::vector<std::string> random_sequences(std::int64_t length) {
  std::mt19937 random(1);
  std::vector<std::string> out(64, std::string(static_cast<std::size_t>(length), ' '));
  for (std::string& sequence : out) {
    for (char& letter : sequence) letter = "ACGU"[random() % 4];
  }
  return out;
}

/// The second column of every hundredth line.
std::vector<std::string> real_sequences(const std::string& csv) {
  std::ifstream file(csv);
  std::vector<std::string> out;
  std::string line;
  std::getline(file, line);
  for (int row = 0; std::getline(file, line); ++row) {
    if (row % 100 != 0) continue;
    const std::size_t begin = line.find(',') + 1;
    out.push_back(line.substr(begin, line.find(',', begin) - begin));
  }
  return out;
}

void fold_all(benchmark::State& state, const std::vector<std::string>& sequences) {
  std::size_t k = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(ribo::fold::partition_function(sequences[k++ % sequences.size()]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto add = [](const std::string& name, std::vector<std::string> sequences) {
    benchmark::RegisterBenchmark(name.c_str(), fold_all, std::move(sequences))
        ->Unit(benchmark::kMillisecond);
  };
  for (const std::int64_t length : {60, 120, 170, 457, 1000}) {
    add("random/" + std::to_string(length), random_sequences(length));
  }
  if (const char* data = std::getenv("RIBO_DATA")) {
    if (auto real = real_sequences(std::string(data) + "/ribonanza/train.csv"); !real.empty()) {
      add("ribonanza", std::move(real));
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
