// Blocks and kernels against references that other code computed in float64. The files lie in
// tests/fixtures and in the folders of $RIBO_FIXTURES, separated by colons.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "selective_scan/selective_scan.h"
#include "support/blocks.h"
#include "support/ribonanzanet_reference.h"
#include "train/safetensors.h"
#include "train/trainer.h"

namespace ribo {
namespace {

namespace fs = std::filesystem;

constexpr double kLargestOutputError = 1e-5;    // absolute
constexpr double kLargestGradientError = 1e-4;  // relative to the gradient's largest value

std::vector<fs::path> folders() {
  std::vector<fs::path> out = {RIBO_TEST_FIXTURES};
  if (const char* more = std::getenv("RIBO_FIXTURES")) {
    for (const fs::path& folder : plugins::split_path_list(more)) out.push_back(folder);
  }
  return out;
}

// The files of all folders whose names start so; a folder that cannot be listed fails the test.
std::vector<fs::path> fixtures(const std::string& prefix) {
  std::vector<fs::path> out;
  for (const fs::path& folder : folders()) {
    std::error_code ec;
    const size_t before = out.size();
    for (const auto& entry : fs::directory_iterator(folder, ec)) {
      const fs::path& path = entry.path();
      if (path.extension() == ".safetensors" && path.filename().string().starts_with(prefix)) {
        out.push_back(path);
      }
    }
    if (ec) ADD_FAILURE() << folder.string() << ": " << ec.message();
    std::sort(out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
  }
  return out;
}

class Fixture {
 public:
  explicit Fixture(const fs::path& path) : tensors_(read_safetensors(path, &metadata_)) {}

  bool has(const std::string& name) const { return tensors_.contains(name); }
  at::Tensor get(const std::string& name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) throw Error("it has no tensor " + name);
    return it->second;
  }
  /// The tensors whose names start with `prefix`, without it.
  Tensors below(const std::string& prefix) const {
    Tensors out;
    for (const auto& [name, tensor] : tensors_) {
      if (name.starts_with(prefix)) out[name.substr(prefix.size())] = tensor;
    }
    return out;
  }
  nlohmann::json config() const {
    const auto it = metadata_.find("config");
    if (it == metadata_.end()) throw Error("its metadata has no config");
    return nlohmann::json::parse(it->second);
  }

 private:
  Metadata metadata_;
  Tensors tensors_;
};

// The largest errors of one file, told when it is done.
class Errors {
 public:
  explicit Errors(std::string name) : name_(std::move(name)) {}

  void output(const std::string& what, const at::Tensor& got, const at::Tensor& want) {
    if (!fits(what, got, want)) return;
    const double error = (got - want).abs().max().item<double>();
    output_ = std::max(output_, error);
    EXPECT_LE(error, kLargestOutputError) << name_ << ": " << what;
  }
  /// `floor`: relative to this where the gradient's largest value is less.
  void gradient(const std::string& what, const at::Tensor& got, const at::Tensor& want,
                double floor = 0) {
    if (!fits("the gradient of " + what, got, want)) return;
    const double scale = std::max({floor, want.abs().max().item<double>(), 1e-30});
    const double error = (got - want).abs().max().item<double>() / scale;
    if (error >= gradient_) worst_ = what;
    gradient_ = std::max(gradient_, error);
    EXPECT_LE(error, kLargestGradientError) << name_ << ": the gradient of " << what;
  }
  /// ./run-tests shows these lines.
  void report(const std::string& what) const {
    std::printf("fixture: %s: %s, largest output error %.2g, largest gradient error %.2g (%s)\n",
                name_.c_str(), what.c_str(), output_, gradient_, worst_.c_str());
    std::fflush(stdout);
  }

 private:
  bool fits(const std::string& what, const at::Tensor& got, const at::Tensor& want) {
    EXPECT_TRUE(got.defined()) << name_ << ": there is no " << what;
    if (!got.defined()) return false;
    EXPECT_EQ(got.sizes(), want.sizes()) << name_ << ": " << what;
    return got.sizes() == want.sizes();
  }
  const std::string name_;
  double output_ = 0, gradient_ = 0;
  std::string worst_;
};

void check_mamba_block(const Fixture& f, Errors& errors) {
  const nlohmann::json c = f.config();
  const auto integer = [&](const char* key) { return c.at(key).get<int64_t>(); };
  const int64_t width = integer("d_model");
  const auto& factory = testing::host().blocks().at("mamba").factory;
  std::string yaml = cat("{norm: none, residual: false, dropout: 0, d_state: ", integer("d_state"),
                         ", d_conv: ", integer("d_conv"), ", expand: ", integer("expand"));
  for (const char* key : {"dt_rank", "conv_bias", "bias"}) {
    if (c.contains(key)) yaml += cat(", ", key, ": ", c.at(key).dump());
  }
  Diagnostics diagnostics;
  const auto options =
      read_options(factory, read_yaml(yaml + "}", "config"), "config", {}, diagnostics);
  diagnostics.throw_if_any();
  Shapes in;
  in.produce("mask", {dim::batch, dim::length});
  in.produce("single", {dim::batch, dim::length, width});
  const auto block = factory.make(options.get(), in);
  load_weights(*block, f.below("weight."));

  const at::Tensor input = f.get("input").clone().set_requires_grad(true);
  Streams streams;
  streams.set("single", input);
  streams.set("mask", at::ones({input.size(0), input.size(1)}, at::kBool));
  block->train();
  block->forward(streams);
  errors.output("the output", streams.single(), f.get("output"));
  torch::autograd::backward({streams.single()}, {f.get("cotangent")});
  for (const auto& [name, want] : f.below("grad.")) {
    if (name == "input") {
      errors.gradient(name, input.grad(), want);
    } else {
      errors.gradient(name, block->named_parameters()[name].grad(), want);
    }
  }
}

// The reference's last dimension is the position, the kernel's second one.
void check_scan(const Fixture& f, Errors& errors) {
  Tensors in = f.below("in.");
  for (auto& [name, tensor] : in) tensor = tensor.clone().set_requires_grad(true);
  const auto get = [&](const char* name) { return in.contains(name) ? in.at(name) : at::Tensor(); };
  const auto time_second = [&](const char* name) {
    const at::Tensor x = get(name);
    return x.defined() ? x.movedim(-1, 1) : x;
  };
  kernels::SelectiveScanArgs args;
  args.u = time_second("u");
  args.delta = time_second("delta");
  args.A = get("A");
  args.B = time_second("B");
  args.C = time_second("C");
  args.D = get("D");
  args.z = time_second("z");
  args.delta_bias = get("delta_bias");
  args.delta_softplus = true;
  const auto [y, last_state] = kernels::selective_scan(args);

  errors.output("y", y.movedim(1, -1), f.get("out.y"));
  errors.output("last_state", last_state, f.get("out.last_state"));
  torch::autograd::backward({y.movedim(1, -1)}, {f.get("cotangent")});
  for (const auto& [name, want] : f.below("grad.")) {
    if (in.contains(name)) errors.gradient(name, in.at(name).grad(), want);
  }
}

Streams run_ribonanzanet(Model& model, const at::Tensor& tokens, const at::Tensor& lengths) {
  Streams streams;
  streams.set("tokens", tokens);
  streams.set("mask", at::arange(tokens.size(1)).unsqueeze(0) < lengths.unsqueeze(1));
  model.forward(streams);
  return streams;
}

void check_ribonanzanet(const Fixture& f, Errors& errors) {
  const nlohmann::json c = f.config();
  const auto integer = [&](const char* key) { return c.at(key).get<int64_t>(); };
  const testing::RibonanzaNet net = {
      .ninp = integer("ninp"),
      .pairwise_dimension = integer("pairwise_dimension"),
      .nhead = integer("nhead"),
      .nlayers = integer("nlayers"),
      .k = integer("k"),
      .use_triangular_attention = c.at("use_triangular_attention").get<bool>()};
  const auto model = testing::make_model(testing::ribonanzanet_model(net));
  load_weights(*model, testing::from_reference_names(net, f.below("weight.")));
  model->train();

  const at::Tensor tokens = f.get("tokens");
  const at::Tensor full = at::full({tokens.size(0)}, tokens.size(1), at::kLong);
  const Streams streams = run_ribonanzanet(*model, tokens, full);
  errors.output("the output", streams.get("pred.reactivity"), f.get("output"));

  torch::autograd::backward({streams.get("pred.reactivity")}, {f.get("cotangent")});
  Tensors grads;
  for (const auto& item : model->named_parameters()) {
    const at::Tensor& grad = item.value().grad();
    grads[item.key()] = grad.defined() ? grad : at::zeros_like(item.value());
  }
  grads = testing::to_reference_names(net, grads);
  const Tensors want = f.below("grad.");
  double largest = 0;
  for (const auto& [name, grad] : want) {
    largest = std::max(largest, grad.abs().max().item<double>());
  }
  for (const auto& [name, grad] : want) {
    // A gradient that vanishes in theory is noise on both sides: pairwise_norm.bias, for one,
    // shifts all logits of a row alike, which the softmax takes back. It may reach 1e-6 of the
    // largest.
    const bool vanishes = grad.abs().max().item<double>() < 1e-12 * largest;
    errors.gradient(name, grads[name], grad, vanishes ? 1e-2 * largest : 0);
  }
  for (const auto& [name, grad] : grads) EXPECT_TRUE(want.contains(name)) << name;

  const at::Tensor lengths = f.get("ragged.lengths");
  model->eval();
  // What the padding's tokens are does not matter.
  const Streams ragged = run_ribonanzanet(*model, tokens, lengths);
  for (int64_t i = 0; i < lengths.size(0); ++i) {
    const int64_t length = lengths[i].item<int64_t>();
    errors.output(cat("sequence ", i, " in a padded batch"),
                  ragged.get("pred.reactivity")[i].narrow(0, 0, length),
                  f.get(cat("ragged.", i, ".output")));
  }
}

void check_all(const std::string& prefix, const std::string& what,
               void (*check)(const Fixture&, Errors&)) {
  const std::vector<fs::path> files = fixtures(prefix);
  EXPECT_FALSE(files.empty()) << "no " << prefix << "*.safetensors in " << RIBO_TEST_FIXTURES;
  for (const fs::path& path : files) {
    try {
      Errors errors(path.stem().string());
      check(Fixture(path), errors);
      errors.report(what);
    } catch (const std::exception& e) {
      ADD_FAILURE() << path.string() << ": " << e.what();
    }
  }
}

TEST(Fixtures, MambaBlockAgreesWithItsReference) {
  check_all("mamba_block", "Mamba block", check_mamba_block);
}

TEST(Fixtures, SelectiveScanAgreesWithItsReference) {
  check_all("scan_", "selective scan", check_scan);
}

TEST(Fixtures, RibonanzaNetAgreesWithTheOriginal) {
  check_all("ribonanzanet_", "RibonanzaNet", check_ribonanzanet);
}

}  // namespace
}  // namespace ribo
