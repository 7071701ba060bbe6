// Mamba: a selective state-space layer. Names, shapes and initialisation are mamba-ssm's, so that
// its weights load as they are; the second direction's names are Vision Mamba's.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <optional>

#include "../layers.h"
#include "conv1d/conv1d.h"
#include "ribo/plugin.h"
#include "selective_scan/selective_scan.h"

namespace {

struct Mamba final : ribo::Block {
  struct Options {
    int64_t d_state = 16;
    int64_t d_conv = 4;
    int64_t expand = 2;
    std::optional<int64_t> dt_rank;
    double dt_min = 0.001;
    double dt_max = 0.1;
    std::string dt_init = "random";
    double dt_scale = 1;
    double dt_init_floor = 1e-4;
    bool conv_bias = true;
    bool bias = false;
    bool bidirectional = false;
    double dropout = 0;
    std::string norm = "layer";
    double norm_eps = 1e-5;
    bool residual = true;
  };

  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s(
        "Mamba (arXiv:2312.00752): a selective state-space layer, pre-norm, residual. Linear in "
        "the length.");
    s.param("d_state", &Options::d_state, "states of each channel").range(1, 256);
    s.param("d_conv", &Options::d_conv, "width of the causal convolution, in residues")
        .range(1, 63);
    s.param("expand", &Options::expand, "inner width, in widths of `single`").range(1, 8);
    s.param("dt_rank", &Options::dt_rank, "rank of the step size's projection; auto = width / 16")
        .range(1, 4096);
    s.param("dt_min", &Options::dt_min, "smallest step size at the start").range(1e-6, 1);
    s.param("dt_max", &Options::dt_max, "largest step size at the start").range(1e-6, 10);
    s.param("dt_init", &Options::dt_init,
            "how dt_proj.weight starts: uniform in +-dt_scale / "
            "sqrt(dt_rank), or constant at the upper end")
        .choices({"random", "constant"});
    s.param("dt_scale", &Options::dt_scale, "scale of dt_proj.weight at the start")
        .range(1e-3, 100);
    s.param("dt_init_floor", &Options::dt_init_floor, "no step size starts below this")
        .range(1e-8, 1);
    s.param("conv_bias", &Options::conv_bias, "the convolution has a bias");
    s.param("bias", &Options::bias, "in_proj and out_proj have a bias");
    s.param("bidirectional", &Options::bidirectional,
            "also scan from the 3' end, with its own convolution and state-space weights "
            "(arXiv:2401.09417); in_proj, the gate and out_proj are shared");
    s.param("dropout", &Options::dropout, "dropout on the residual branch").range(0, 1);
    s.param("norm", &Options::norm, "normalisation over the channels, in front")
        .choices(ribo::blocks::norm_names());
    s.param("norm_eps", &Options::norm_eps, "added to the variance").range(1e-12, 1e-2);
    s.param("residual", &Options::residual, "add the input to the output");
    s.check([](const Options& o) -> std::string {
      return o.dt_min <= o.dt_max
                 ? ""
                 : ribo::cat("dt_min (", o.dt_min, ") is above dt_max (", o.dt_max, ")");
    });
    return s;
  }

  static void shapes(const Options&, ribo::Shapes& s) {
    s.need("mask", 2);
    s.produce("single", s.need("single", 3));
  }

  Mamba(const Options& options, const ribo::Shapes& in)
      : options_(options),
        inner_(options.expand * in.width("single")),
        dt_rank_(options.dt_rank.value_or((in.width("single") + 15) / 16)) {
    const int64_t width = in.width("single");
    norm_ = register_module(
        "norm", std::make_shared<ribo::blocks::Norm>(options.norm, width, options.norm_eps));
    in_proj_ = register_module(
        "in_proj",
        torch::nn::Linear(torch::nn::LinearOptions(width, 2 * inner_).bias(options.bias)));
    forward_ = make_direction("", "A_log");
    if (options.bidirectional) backward_ = make_direction("_b", "A_b_log");
    out_proj_ = register_module(
        "out_proj", torch::nn::Linear(torch::nn::LinearOptions(inner_, width).bias(options.bias)));
  }

  void forward(ribo::Streams& s) override {
    const at::Tensor &single = s.single(), &mask = s.mask();
    const at::Tensor lengths = mask.sum(-1);
    const auto halves = in_proj_->forward(norm_->forward(single)).chunk(2, -1);
    at::Tensor y = run(forward_, halves[0], lengths, false);
    if (options_.bidirectional) y = y + run(backward_, halves[0], lengths, true);
    y = out_proj_->forward(y * at::silu(halves[1]));
    y = at::dropout(y, options_.dropout, is_training());
    s.set("single", ribo::zero_padding(options_.residual ? single + y : y, mask));
  }

 private:
  // The weights of one scan, from the 5' or the 3' end.
  struct Direction {
    torch::nn::Conv1d conv1d = nullptr;
    torch::nn::Linear x_proj = nullptr, dt_proj = nullptr;
    at::Tensor A_log, D;
  };

  Direction make_direction(const std::string& suffix, const std::string& A_name) {
    Direction d;
    d.conv1d =
        register_module("conv1d" + suffix,
                        torch::nn::Conv1d(torch::nn::Conv1dOptions(inner_, inner_, options_.d_conv)
                                              .groups(inner_)
                                              .bias(options_.conv_bias)));
    d.x_proj = register_module(
        "x_proj" + suffix,
        ribo::blocks::without_bias(inner_, dt_rank_ + 2 * options_.d_state));
    d.dt_proj = register_module("dt_proj" + suffix, torch::nn::Linear(dt_rank_, inner_));
    d.A_log = register_parameter(
        A_name, at::arange(1, options_.d_state + 1, at::kFloat).log().repeat({inner_, 1}));
    d.D = register_parameter("D" + suffix, at::ones({inner_}));

    at::NoGradGuard no_grad;
    const double std = options_.dt_scale / std::sqrt(static_cast<double>(dt_rank_));
    if (options_.dt_init == "constant") {
      d.dt_proj->weight.fill_(std);
    } else {
      d.dt_proj->weight.uniform_(-std, std);
    }
    // softplus(bias) is log-uniform in dt_min..dt_max; the bias is softplus's inverse of that.
    const double low = std::log(options_.dt_min), high = std::log(options_.dt_max);
    const at::Tensor dt =
        (at::rand({inner_}) * (high - low) + low).exp().clamp_min(options_.dt_init_floor);
    d.dt_proj->bias.copy_(dt + (-(-dt).expm1()).log());
    return d;
  }

  // x [B, L, inner]. From the 3' end both the convolution and the scan start at each sequence's own
  // last residue.
  at::Tensor run(Direction& d, const at::Tensor& x, const at::Tensor& lengths, bool reverse) const {
    const int64_t states = options_.d_state;
    const at::Tensor u = ribo::kernels::causal_conv1d(
        x, d.conv1d->weight.squeeze(1), d.conv1d->bias, lengths, /*silu=*/true, reverse);
    const auto parts = d.x_proj->forward(u).split_with_sizes({dt_rank_, states, states}, -1);
    ribo::kernels::SelectiveScanArgs scan;
    scan.u = u;
    scan.delta = at::linear(parts[0], d.dt_proj->weight);
    scan.A = -d.A_log.exp();
    scan.B = parts[1];
    scan.C = parts[2];
    scan.D = d.D;
    scan.delta_bias = d.dt_proj->bias;
    scan.lengths = lengths;
    scan.delta_softplus = true;
    scan.reverse = reverse;
    return ribo::kernels::selective_scan(scan).y;
  }

  const Options options_;
  const int64_t inner_, dt_rank_;
  std::shared_ptr<ribo::blocks::Norm> norm_;
  torch::nn::Linear in_proj_ = nullptr, out_proj_ = nullptr;
  Direction forward_, backward_;
};

}  // namespace

RIBO_PLUGIN(mamba, RIBO_VERSION, "Mamba, a selective state-space layer") {
  plugin.block<Mamba>("mamba");
}
