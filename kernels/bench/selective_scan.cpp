#include "selective_scan/selective_scan.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kStates = 16;

// u, delta and y; B and C. A block's scan also reads a gate z, and takes a softplus and a SiLU of
// each position and channel. Backward: the states again, from some that are kept; u, delta, dy, du,
// ddelta (and z, dz); B, C, and float32 dB, dC.
Least least(const Setting& s, bool gated) {
  const int64_t stride = s.on_gpu() ? 16 : 32;  // positions between two kept states
  const auto positions = static_cast<double>(s.batch * s.length), size = s.element_bytes();
  const double n = kStates, e = positions * static_cast<double>(s.channels);
  const auto kept =
      static_cast<double>(4 * s.batch * s.channels * kStates * ((s.length + stride - 1) / stride));
  return {.forward = {.bytes = size * (e * (gated ? 4 : 3) + 2 * positions * n),
                      .exps = e * (n + (gated ? 4 : 0)),
                      .ops = e * (4 * n + (gated ? 12 : 2))},
          .backward = {.bytes = size * (e * (gated ? 7 : 5) + 2 * positions * n) +
                                8 * positions * n + kept,
                       .exps = e * (n + (gated ? 5 : 0)),
                       .ops = e * (12 * n + (gated ? 25 : 8))},
          .kept = kept};
}

SelectiveScanArgs inputs(const Setting& s) {
  SelectiveScanArgs in;
  in.u = s.leaf({s.batch, s.length, s.channels});
  in.delta = at::rand({s.batch, s.length, s.channels}, s.stored).mul_(0.1).set_requires_grad(true);
  in.A =
      (-at::rand({s.channels, kStates}, s.stored.dtype(at::kFloat)) - 0.1).set_requires_grad(true);
  in.B = s.leaf({s.batch, s.length, kStates});
  in.C = s.leaf({s.batch, s.length, kStates});
  in.D = s.weight({s.channels});
  return in;
}

Problem plain(const Setting& s) {
  const SelectiveScanArgs in = inputs(s);
  return {{in.u, in.delta, in.A, in.B, in.C, in.D}, [in] { return selective_scan(in).y; }};
}

// As a Mamba block calls it.
Problem gated(const Setting& s) {
  SelectiveScanArgs in = inputs(s);
  in.z = s.leaf({s.batch, s.length, s.channels});
  in.delta_bias = s.weight({s.channels});
  in.delta_softplus = true;
  return {{in.u, in.delta, in.A, in.B, in.C, in.D, in.z, in.delta_bias},
          [in] { return selective_scan(in).y; }};
}

// One step after another.
at::Tensor step_by_step(const SelectiveScanArgs& in) {
  const at::Tensor decay = (in.delta.unsqueeze(-1) * in.A).exp();
  const at::Tensor drive = (in.delta * in.u).unsqueeze(-1) * in.B.unsqueeze(2);
  // Not decay.select(1, t), whose backward pass fills a tensor of decay's size for each t.
  const auto decays = decay.unbind(1), drives = drive.unbind(1);
  at::Tensor h = at::zeros({1, in.u.size(2), kStates});
  std::vector<at::Tensor> states;
  for (size_t t = 0; t < decays.size(); ++t) {
    h = decays[t] * h + drives[t];
    states.push_back(h);
  }
  return at::matmul(at::stack(states, 1), in.C.unsqueeze(-1)).squeeze(-1) + in.D * in.u;
}

Problem sequential(const Setting& s) {
  const SelectiveScanArgs in = inputs(s);
  return {{in.u, in.delta, in.A, in.B, in.C, in.D}, [in] { return step_by_step(in); }};
}

}  // namespace

void add_selective_scan() {
  for (const int64_t length : {177, 256, 512, 1024, 2048, 4096, 8192, 16384}) {
    const Setting s = on_cpu(1, length, 512);
    add_passes("selective_scan/ribo", s, least(s, false), [s] { return plain(s); });
    if (length == 177 || length == 1024) {
      add_passes("selective_scan/sequential", s, {}, [s] { return sequential(s); });
    }
  }
  std::vector<Setting> settings = {on_cpu(16, 177, 512)};
  for (const Setting& s : sequences_on_gpu({at::kBFloat16, at::kFloat})) settings.push_back(s);
  for (const Setting& s : settings) {
    add_passes("gated_scan/ribo", s, least(s, true), [s] { return gated(s); });
  }
}

}  // namespace ribo::kernels::bench
