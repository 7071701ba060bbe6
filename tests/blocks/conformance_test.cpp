// What every block promises (ribo/block.h, ribo/streams.h), tried on each one that the host offers,
// with options drawn from its schema. A new block is tested without a word here.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "support/blocks.h"
#include "train/safetensors.h"
#include "train/temp_folder.h"
#include "train/trainer.h"

namespace ribo {
namespace {

constexpr int kDraws = 8;        // for each block and property
constexpr int kMostTries = 400;  // draws that a schema or shapes() may refuse in between
const std::vector<int64_t> kLengths = {5, 17, 1, 12};  // of the sequences in a batch

class Random {
 public:
  explicit Random(const std::string& seed) {
    std::seed_seq sequence(seed.begin(), seed.end());
    engine_.seed(sequence);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  bool chance(double p) { return uniform() < p; }

 private:
  std::mt19937_64 engine_;
};

// Small numbers from the lower end of the range: tests pay for widths.
Value draw_integer(const Param& p, Random& random) {
  const double low = std::max(p.low.value_or(1), -1e6), stride = p.stride.value_or(1);
  const double most = std::floor((p.high.value_or(low + 6 * stride) - low) / stride);
  const int64_t steps = random.below(static_cast<int64_t>(std::min(6.0, most)) + 1);
  return write_value(static_cast<int64_t>(low + static_cast<double>(steps) * stride));
}

Value draw_number(const Param& p, Random& random) {
  if (!p.low || !p.high) return p.default_value;
  // What drops everything lets no gradient through.
  if (p.name.find("dropout") != std::string::npos) {
    return write_value(random.chance(0.5) ? 0.0 : 0.3 * random.uniform());
  }
  const double low = *p.low, high = *p.high, x = random.uniform();
  if (low > 0 && high / low > 100) return write_value(low * std::pow(high / low, x));
  return write_value(low + x * (high - low));
}

Value draw_value(const Param& p, Random& random) {
  if (!p.is_required && random.chance(0.2)) return p.default_value;
  if (p.type == "true|false") return write_value(random.chance(0.5));
  if (p.type.starts_with("integer")) return draw_integer(p, random);
  if (p.type.starts_with("number")) return draw_number(p, random);
  const auto choice = [&] {
    return Value::scalar(
        p.allowed[static_cast<size_t>(random.below(static_cast<int64_t>(p.allowed.size())))]);
  };
  if (p.type == "string" && !p.allowed.empty()) return choice();
  if (p.type.starts_with("list of ") && (p.size_low || !p.allowed.empty())) {
    Value out = Value::list();
    const int64_t low = p.size_low.value_or(1), high = p.size_high.value_or(4);
    const int64_t count = low + random.below(std::min<int64_t>(high - low, 3) + 1);
    for (int64_t i = 0; i < count; ++i) {
      if (!p.allowed.empty()) {
        out.items.push_back(choice());
      } else if (p.type == "list of integers") {
        out.items.push_back(draw_integer(p, random));
      } else {
        out.items.push_back(draw_number(p, random));
      }
    }
    return out;
  }
  return p.default_value;
}

// A block with options that it accepts, and the streams around it.
struct Draw {
  std::string text;
  const BlockFactory* factory = nullptr;
  std::shared_ptr<void> options;
  Shapes in, out;

  std::shared_ptr<Block> make(uint64_t seed) const {
    at::manual_seed(seed);
    auto block = factory->make(options.get(), in);
    block->eval();
    return block;
  }
};

Shapes draw_streams(Random& random) {
  Shapes s;
  const int64_t width = 8 * (1 + random.below(3));
  s.produce("tokens", {dim::batch, dim::length});
  s.produce("mask", {dim::batch, dim::length});
  s.produce("single", {dim::batch, dim::length, width});
  if (random.chance(0.5)) {
    s.produce("pair", {dim::batch, dim::length, dim::length, 4 * (1 + random.below(3))});
  }
  if (random.chance(0.5)) s.produce("bpp", {dim::batch, dim::length, dim::length});
  if (random.chance(0.5)) s.produce("reversed", {dim::batch});
  s.produce("target.reactivity", {dim::batch, dim::length, 2}, {"2a3", "dms"});
  s.declare("single", width);
  s.declare("pair", 4 * (1 + random.below(3)));
  return s.next();
}

// False when the schema, a check or shapes() refuses this draw.
bool try_draw(const std::string& name, Random& random, Draw& draw) {
  draw = {};
  draw.factory = &testing::host().blocks().at(name).factory;
  Value map = Value::map();
  for (const Param& p : draw.factory->schema->params()) map.set(p.name, draw_value(p, random));
  draw.text = name + "\n" + to_yaml(map);
  Diagnostics diagnostics;
  draw.options = read_options(*draw.factory, map, name, {}, diagnostics);
  draw.in = draw_streams(random);
  draw.out = draw.in;
  if (!draw.options) return false;
  try {
    draw.factory->shapes(draw.options.get(), draw.out);
  } catch (const ConfigError&) {
    return false;
  }
  return true;
}

void for_each_draw(const std::function<void(const Draw&)>& check) {
  for (const auto& [name, entry] : testing::host().blocks()) {
    Random random(name);
    int accepted = 0;
    for (int i = 0; i < kMostTries && accepted < kDraws; ++i) {
      Draw draw;
      if (!try_draw(name, random, draw)) continue;
      ++accepted;
      SCOPED_TRACE(draw.text);
      try {
        check(draw);
      } catch (const std::exception& e) {
        ADD_FAILURE() << e.what();
      }
    }
    EXPECT_EQ(accepted, kDraws) << name << " refuses nearly all options over these streams";
  }
}

// The dimensions (batch left out) that are as long as the sequence.
std::vector<int64_t> length_dims(const Shape& shape) {
  std::vector<int64_t> out;
  for (size_t d = 1; d < shape.size(); ++d) {
    if (shape[d] == dim::length) out.push_back(static_cast<int64_t>(d) - 1);
  }
  return out;
}

const Shape& shape_of(const Shapes& shapes, const std::string& name) {
  return shapes.streams().find(name)->second.shape;
}

// One sequence of one stream, without padding.
at::Tensor inside(const Streams& streams, const Shapes& shapes, const std::string& name,
                  int64_t row, int64_t length) {
  at::Tensor x = streams.get(name)[row];
  for (int64_t d : length_dims(shape_of(shapes, name))) x = x.narrow(d, 0, length);
  return x;
}

// [B, L, ..] or [B, L, L, ..]: true where every length dimension is inside its sequence.
at::Tensor inside_mask(const at::Tensor& x, const Shape& shape, const at::Tensor& mask) {
  at::Tensor out = at::ones_like(x, at::kBool);
  for (int64_t d : length_dims(shape)) {
    std::vector<int64_t> view(static_cast<size_t>(x.dim()), 1);
    view[0] = x.size(0);
    view[static_cast<size_t>(d) + 1] = x.size(d + 1);
    out = out.logical_and(mask.view(view));
  }
  return out;
}

// What sequence `row` holds doesn't depend on the others or on the padding.
at::Tensor content(const std::string& name, const Shape& shape, int64_t row, int64_t length) {
  auto generator = at::detail::createCPUGenerator(std::hash<std::string>()(name) + row);
  std::vector<int64_t> sizes;
  for (size_t d = 1; d < shape.size(); ++d) {
    sizes.push_back(shape[d] == dim::length ? length : shape[d]);
  }
  if (name == "tokens") return at::randint(0, 4, sizes, generator, at::kLong);
  if (name == "mask") return at::ones(sizes, at::kBool);
  if (name == "reversed") return at::scalar_tensor(row % 2 == 1, at::kBool);
  return at::randn(sizes, generator);
}

Streams make_streams(const Shapes& shapes, const std::vector<int64_t>& rows,
                     const std::vector<int64_t>& lengths, int64_t padding = 0) {
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end()) + padding;
  Streams out;
  for (const auto& [name, stream] : shapes.streams()) {
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < rows.size(); ++i) {
      const at::Tensor x = content(name, stream.shape, rows[i], lengths[i]);
      Shape sizes(stream.shape.begin() + 1, stream.shape.end());
      for (int64_t& d : sizes) d = d == dim::length ? longest : d;
      at::Tensor padded = at::full(sizes, name == "tokens" ? kPadToken : 0, x.options());
      at::Tensor part = padded;
      for (int64_t d : length_dims(stream.shape)) part = part.narrow(d, 0, lengths[i]);
      part.copy_(x);
      parts.push_back(padded);
    }
    out.set(name, at::stack(parts));
  }
  return out;
}

Streams make_streams(const Shapes& shapes, int64_t padding = 0) {
  return make_streams(shapes, {0, 1, 2, 3}, kLengths, padding);
}

Streams run(Block& block, Streams streams) {
  at::NoGradGuard no_grad;
  block.forward(streams);
  return streams;
}

double scale_of(const at::Tensor& x) {
  return x.numel() == 0 ? 1 : std::max(1.0, x.abs().max().item<double>());
}

TEST(Conformance, WhatThePaddingHoldsDoesNotMatter) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    const Streams clean = make_streams(draw.in, 3);
    Streams dirty = clean;
    at::manual_seed(7);
    for (const std::string name : {"tokens", "single", "pair", "bpp"}) {
      if (!clean.has(name)) continue;
      const at::Tensor& x = clean.get(name);
      const at::Tensor junk =
          name == "tokens" ? at::randint_like(x, 0, kTokens) : at::randn_like(x) * 1e3;
      dirty.set(name, at::where(inside_mask(x, shape_of(draw.in, name), clean.mask()), x, junk));
    }
    const Streams want = run(*block, clean), got = run(*block, dirty);
    for (const std::string& name : draw.out.produced()) {
      for (size_t row = 0; row < kLengths.size(); ++row) {
        const auto i = static_cast<int64_t>(row);
        EXPECT_TRUE(at::equal(inside(got, draw.out, name, i, kLengths[row]),
                              inside(want, draw.out, name, i, kLengths[row])))
            << name << " of sequence " << row;
      }
    }
  });
}

TEST(Conformance, HowMuchPaddingThereIsDoesNotMatter) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    const auto compare = [&](const Streams& got, int64_t got_row, const Streams& want,
                             int64_t row) {
      const int64_t length = kLengths[static_cast<size_t>(row)];
      for (const std::string& name : draw.out.produced()) {
        const at::Tensor a = inside(got, draw.out, name, got_row, length);
        const at::Tensor b = inside(want, draw.out, name, row, length);
        ASSERT_EQ(a.sizes(), b.sizes()) << name;
        EXPECT_LE((a - b).abs().max().item<double>(), 1e-6 * scale_of(b))
            << name << " of sequence " << row << " within " << got.mask().size(1) << " positions";
      }
    };
    const Streams want = run(*block, make_streams(draw.in));
    for (int64_t padding : {1, 7, 19}) {
      const Streams got = run(*block, make_streams(draw.in, padding));
      for (int64_t row = 0; row < 4; ++row) compare(got, row, want, row);
    }
    for (int64_t row = 0; row < 4; ++row) {
      compare(run(*block, make_streams(draw.in, {row}, {kLengths[static_cast<size_t>(row)]})), 0,
              want, row);
    }
  });
}

TEST(Conformance, TheResultIsZeroOutsideTheMask) {
  for_each_draw([](const Draw& draw) {
    for (const bool training : {false, true}) {
      const auto block = draw.make(1);
      block->train(training);
      const Streams out = run(*block, make_streams(draw.in, 2));
      for (const std::string& name : draw.out.produced()) {
        const at::Tensor& x = out.get(name);
        const Shape& shape = shape_of(draw.out, name);
        if (!x.is_floating_point() || length_dims(shape).empty()) continue;
        EXPECT_TRUE(x.isfinite().all().item<bool>()) << name;
        const at::Tensor outside = inside_mask(x, shape, out.mask()).logical_not();
        EXPECT_EQ(x.masked_select(outside).count_nonzero().item<int64_t>(), 0) << name;
      }
    }
  });
}

TEST(Conformance, ReadsOnlyWhatItsPlanAsksFor) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    const Streams all = make_streams(draw.in);
    Streams needed;
    for (const std::string& name : draw.out.needed()) needed.set(name, all.get(name));
    const Streams want = run(*block, all), got = run(*block, needed);
    for (const std::string& name : draw.out.produced()) {
      EXPECT_TRUE(at::equal(got.get(name), want.get(name))) << name;
    }
  });
}

TEST(Conformance, TheResultHasThePlannedShape) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    const Streams out = run(*block, make_streams(draw.in));
    for (const std::string& name : draw.out.produced()) {
      const Shape& shape = shape_of(draw.out, name);
      std::vector<int64_t> want;
      for (int64_t d : shape) want.push_back(d == dim::batch ? 4 : d == dim::length ? 17 : d);
      EXPECT_EQ(out.get(name).sizes(), at::IntArrayRef(want)) << name;
    }
    for (const auto& [name, tensor] : out) {
      EXPECT_TRUE(draw.out.has(name)) << "an unplanned stream: " << name;
    }
  });
}

// Checkpointing and observers keep the streams in front of a block.
TEST(Conformance, StreamsAreReplacedNotChanged) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    block->train();
    const Streams in = make_streams(draw.in);
    run(*block, in);
    for (const auto& [name, tensor] : make_streams(draw.in)) {
      EXPECT_TRUE(at::equal(in.get(name), tensor)) << name;
    }
  });
}

TEST(Conformance, GradientsReachEveryParameter) {
  for_each_draw([](const Draw& draw) {
    const auto block = draw.make(1);
    if (block->parameters().empty()) return;
    block->train();
    // Dropout may hide a small parameter from one pass.
    for (int pass = 0; pass < 4; ++pass) {
      Streams streams = make_streams(draw.in, 2);
      block->forward(streams);
      at::Tensor loss = at::zeros({});
      for (const std::string& name : draw.out.produced()) {
        const at::Tensor& x = streams.get(name);
        if (x.requires_grad()) loss = loss + (x * at::randn_like(x)).sum();
      }
      torch::autograd::backward({loss}, {});
    }
    for (const auto& item : block->named_parameters()) {
      const at::Tensor& grad = item.value().grad();
      ASSERT_TRUE(grad.defined()) << item.key();
      EXPECT_TRUE(grad.isfinite().all().item<bool>()) << item.key();
      EXPECT_GT(grad.count_nonzero().item<int64_t>(), 0) << item.key();
    }
  });
}

TEST(Conformance, SavedWeightsGiveTheSameResultInAnotherBlock) {
  testing::TempFolder folder;
  for_each_draw([&](const Draw& draw) {
    const auto first = draw.make(1), second = draw.make(2);
    const Streams in = make_streams(draw.in);
    const Streams want = run(*first, in);
    write_safetensors(folder / "w.safetensors", named_weights(*first));
    load_weights(*second, read_safetensors(folder / "w.safetensors"));
    const Streams got = run(*second, in);
    for (const std::string& name : draw.out.produced()) {
      EXPECT_TRUE(at::equal(got.get(name), want.get(name))) << name;
    }
  });
}

// A copy of `shapes` without a stream, or with another rank for it.
Shapes altered(const Shapes& shapes, const std::string& name, bool keep) {
  Shapes out;
  for (const auto& [other, stream] : shapes.streams()) {
    if (other != name) {
      out.produce(other, stream.shape, stream.labels);
    } else if (keep) {
      Shape shape = stream.shape;
      shape.push_back(3);
      out.produce(other, shape);
    }
  }
  for (const char* other : {"single", "pair"}) {
    if (name != other) out.declare(other, 8);
  }
  return out.next();
}

TEST(Conformance, AStreamThatIsMissingOrMisshapenIsNamed) {
  for_each_draw([](const Draw& draw) {
    for (const std::string& name : draw.out.needed()) {
      for (const bool keep : {false, true}) {
        Shapes shapes = altered(draw.in, name, keep);
        try {
          draw.factory->shapes(draw.options.get(), shapes);
          // Some streams are read only where there are any.
          const auto& needed = shapes.needed();
          EXPECT_TRUE(!keep && std::find(needed.begin(), needed.end(), name) == needed.end())
              << name << (keep ? " with a further dimension" : " missing") << ": no error";
        } catch (const ConfigError& e) {
          EXPECT_NE(std::string(e.what()).find("\"" + name + "\""), std::string::npos) << e.what();
        }
      }
    }
  });
}

TEST(Transformer, NamesTheWidthThatItsHeadsDoNotDivide) {
  const std::string what = testing::error_of([] {
    testing::make_plan(
        "streams: {single: 16}\n"
        "blocks: [{type: embedding}, {type: transformer, heads: 3}]\n");
  });
  EXPECT_NE(what.find("heads: 3 does not divide the width of \"single\", 16"), std::string::npos)
      << what;
}

}  // namespace
}  // namespace ribo
