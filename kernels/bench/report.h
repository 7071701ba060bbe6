// What every case reports, whatever it runs on.
#pragma once

#include <benchmark/benchmark.h>

#include "bench/bench.h"

namespace ribo::kernels::bench {

/// The milliseconds of the fastest call, and its work per second.
inline void report_rates(benchmark::State& state, const Work& work, double fastest) {
  state.counters["fastest"] = 1e3 * fastest;
  const auto rate = [&](const char* name, double amount) {
    if (amount > 0) state.counters[name] = amount / fastest;
  };
  rate("bytes", work.bytes);
  rate("exps", work.exps);
  rate("ops", work.ops);
  rate("products", work.products);
}

/// The least seconds that the work can take here, in % of those taken, and what takes them.
inline void report_limit(benchmark::State& state, double least, const char* bound, double fastest) {
  if (least == 0) return;
  state.counters["limit"] = 100 * least / fastest;
  state.SetLabel(bound);
}

}  // namespace ribo::kernels::bench
