#include "selective_scan/selective_scan.h"

#include "bench/bench.h"

namespace ribo::kernels::bench {
namespace {

constexpr int64_t kChannels = 512, kStates = 16;
constexpr double kStride = 32;  // positions between two kept states

// u, delta and y; B and C; the states that the backward pass starts from. A block's scan also reads
// a gate z, and takes a softplus and a SiLU of each position and channel.
Work forward_work(int64_t batch, int64_t length, bool gated) {
  const double e = static_cast<double>(batch * length * kChannels), n = kStates;
  return {.bytes = 4 * e * ((gated ? 4 : 3) + 2 * n / kChannels + n / kStride),
          .exps = e * (n + (gated ? 4 : 0)),
          .ops = e * (4 * n + (gated ? 12 : 2))};
}

// The states are computed again. u, delta, dy, du, ddelta (and z, dz); B, C, dB, dC; kept states.
Work backward_work(int64_t batch, int64_t length, bool gated) {
  const double e = static_cast<double>(batch * length * kChannels), n = kStates;
  return {.bytes = 4 * e * ((gated ? 7 : 5) + 4 * n / kChannels + n / kStride),
          .exps = e * (n + (gated ? 5 : 0)),
          .ops = e * (12 * n + (gated ? 25 : 8))};
}

SelectiveScanArgs inputs(int64_t batch, int64_t length) {
  SelectiveScanArgs in;
  in.u = leaf({batch, length, kChannels});
  in.delta = at::rand({batch, length, kChannels}).mul_(0.1).set_requires_grad(true);
  in.A = (-at::rand({kChannels, kStates}) - 0.1).set_requires_grad(true);
  in.B = leaf({batch, length, kStates});
  in.C = leaf({batch, length, kStates});
  in.D = leaf({kChannels});
  return in;
}

Problem plain(int64_t length) {
  const SelectiveScanArgs in = inputs(1, length);
  return {{in.u, in.delta, in.A, in.B, in.C, in.D}, [in] { return selective_scan(in).y; }};
}

// As a Mamba block calls it.
Problem gated(int64_t batch, int64_t length) {
  SelectiveScanArgs in = inputs(batch, length);
  in.z = leaf({batch, length, kChannels});
  in.delta_bias = leaf({kChannels});
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
  at::Tensor h = at::zeros({1, kChannels, kStates});
  std::vector<at::Tensor> states;
  for (size_t t = 0; t < decays.size(); ++t) {
    h = decays[t] * h + drives[t];
    states.push_back(h);
  }
  return at::matmul(at::stack(states, 1), in.C.unsqueeze(-1)).squeeze(-1) + in.D * in.u;
}

Problem sequential(int64_t length) {
  const SelectiveScanArgs in = inputs(1, length);
  return {{in.u, in.delta, in.A, in.B, in.C, in.D}, [in] { return step_by_step(in); }};
}

}  // namespace

void add_selective_scan() {
  for (const int64_t length : {177, 256, 512, 1024, 2048, 4096, 8192, 16384}) {
    const std::string shape = "L=" + std::to_string(length);
    add_passes("selective_scan/ribo/" + shape, forward_work(1, length, false),
               backward_work(1, length, false), [=] { return plain(length); });
    if (length == 177 || length == 1024) {
      add_passes("selective_scan/sequential/" + shape, {}, {}, [=] { return sequential(length); });
    }
  }
  add_passes("gated_scan/ribo/B=16,L=177", forward_work(16, 177, true),
             backward_work(16, 177, true), [] { return gated(16, 177); });
}

}  // namespace ribo::kernels::bench
