// A plugin as a lab outside this repository writes it, and things that fail where they are told to.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <stdexcept>

#include "ribo/plugin.h"

namespace {

// Multiplies each channel by a learned number.
struct Scale final : ribo::Block {
  struct Options {
    double start = 1;
  };
  static ribo::Schema<Options> schema() {
    ribo::Schema<Options> s("Multiplies each channel of `single` by a learned number.");
    s.param("start", &Options::start, "the numbers at the start").range(-10, 10);
    return s;
  }
  static void shapes(const Options&, ribo::Shapes& s) { s.produce("single", s.need("single", 3)); }
  Scale(const Options& options, const ribo::Shapes& in)
      : scale_(register_parameter("scale", at::full({in.width("single")}, options.start))) {}
  void forward(ribo::Streams& s) override { s.set("single", s.single() * scale_); }

 private:
  at::Tensor scale_;
};

struct Failure {
  std::string at = "never";
  std::string how = "exception";

  void happen(const std::string& here) const {
    if (at != here) return;
    if (how == "number") throw 42;
    if (how == "config") throw ribo::ConfigError("at: asked to fail here; say at: never");
    if (how == "error") throw ribo::Error("asked to fail here");
    if (how == "tensor") (void)(at::zeros({2}) + at::zeros({3}));
    throw std::runtime_error("asked to fail here");
  }
  static ribo::Schema<Failure> schema() {
    ribo::Schema<Failure> s("Fails where it is told to.");
    s.param("at", &Failure::at, "the call that fails")
        .choices({"never", "constructor", "shapes", "forward", "streams", "split", "get"});
    s.param("how", &Failure::how, "what is thrown")
        .choices({"exception", "number", "config", "error", "tensor"});
    return s;
  }
};

struct FailingBlock final : ribo::Block {
  using Options = Failure;
  static ribo::Schema<Options> schema() { return Failure::schema(); }
  static void shapes(const Options& o, ribo::Shapes& s) {
    o.happen("shapes");
    s.produce("single", s.need("single", 3));
  }
  FailingBlock(const Options& o, const ribo::Shapes&) : failure_(o) { o.happen("constructor"); }
  void forward(ribo::Streams&) override { failure_.happen("forward"); }

 private:
  const Failure failure_;
};

struct FailingLoss final : ribo::Loss {
  using Options = Failure;
  static ribo::Schema<Options> schema() { return Failure::schema(); }
  explicit FailingLoss(const Options& o) : failure_(o) { o.happen("constructor"); }
  void shapes(ribo::Shapes&) override { failure_.happen("shapes"); }
  at::Tensor forward(const ribo::Streams& s) const override {
    failure_.happen("forward");
    return s.get("pred.reactivity").square().mean();
  }

 private:
  const Failure failure_;
};

struct FailingMetric final : ribo::Metric {
  using Options = Failure;
  static ribo::Schema<Options> schema() { return Failure::schema(); }
  explicit FailingMetric(const Options& o) : failure_(o) { o.happen("constructor"); }
  void shapes(ribo::Shapes&) override { failure_.happen("shapes"); }
  at::Tensor accumulate(const ribo::Streams&) const override {
    failure_.happen("forward");
    return at::ones({1}, at::kDouble);
  }
  double finish(const at::Tensor& sums) const override { return sums.item<double>(); }
  std::string target() const override { return "reactivity"; }

 private:
  const Failure failure_;
};

class FourRnas final : public ribo::Split {
 public:
  explicit FourRnas(Failure failure) : failure_(std::move(failure)) {}
  int64_t size() const override { return 4; }
  int64_t length(int64_t) const override { return 10; }
  std::string id(int64_t i) const override { return ribo::cat("rna_", i); }
  ribo::Streams get(int64_t, uint64_t) const override {
    failure_.happen("get");
    ribo::Streams s;
    s.set("tokens", at::zeros({10}, at::kLong));
    s.set("target.reactivity", at::zeros({10, 2}));
    return s;
  }

 private:
  const Failure failure_;
};

struct FailingData final : ribo::DataSource {
  using Options = Failure;
  static ribo::Schema<Options> schema() { return Failure::schema(); }
  FailingData(const Options& o, const ribo::DataContext&) : failure_(o) {
    o.happen("constructor");
  }
  std::vector<ribo::StreamSpec> streams() const override {
    failure_.happen("streams");
    return {{"tokens", {ribo::dim::length}, at::kLong, ribo::kPadToken},
            {"target.reactivity", {ribo::dim::length, 2}, at::kFloat, 0}};
  }
  std::shared_ptr<const ribo::Split> split(std::string_view) const override {
    failure_.happen("split");
    return std::make_shared<FourRnas>(failure_);
  }

 private:
  const Failure failure_;
};

}  // namespace

RIBO_PLUGIN(testlab, "1.2.3", "Blocks of a lab that tests ribo-run") {
  plugin.ops("testlab", [](torch::Library& m) {
    m.def("twice", [](const at::Tensor& x) -> at::Tensor { return 2 * x; });
  });
  plugin.block<Scale>("scale");
  plugin.block<FailingBlock>("failing");
  plugin.loss<FailingLoss>("failing");
  plugin.metric<FailingMetric>("failing");
  plugin.data<FailingData>("failing");
}
