#include "support/ribonanzanet_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

namespace ribo::testing {
namespace {

// The weights of one module of the original.
class Weights {
 public:
  Weights(const Tensors& all, std::string prefix) : all_(all), prefix_(std::move(prefix)) {}

  Weights below(const std::string& name) const { return {all_, prefix_ + name + "."}; }
  at::Tensor get(const std::string& name) const {
    const auto it = all_.find(prefix_ + name);
    if (it == all_.end()) throw Error("no weight " + prefix_ + name);
    return it->second;
  }
  at::Tensor optional(const std::string& name) const {
    const auto it = all_.find(prefix_ + name);
    return it == all_.end() ? at::Tensor() : it->second;
  }
  at::Tensor linear(const std::string& name, const at::Tensor& x) const {
    return at::linear(x, get(name + ".weight"), optional(name + ".bias"));
  }
  at::Tensor norm(const std::string& name, const at::Tensor& x, double eps = 1e-5) const {
    return at::layer_norm(x, {x.size(-1)}, get(name + ".weight"), get(name + ".bias"), eps);
  }

 private:
  const Tensors& all_;
  const std::string prefix_;
};

at::Tensor self_attention(const Weights& w, const at::Tensor& src, const at::Tensor& bias,
                          int64_t heads) {
  const int64_t batch = src.size(0), length = src.size(1), d = src.size(2) / heads;
  const auto split = [&](const char* name) {
    return w.linear(name, src).view({batch, length, heads, d}).transpose(1, 2);
  };
  const at::Tensor q = split("w_qs"), k = split("w_ks"), v = split("w_vs");
  const at::Tensor logits =
      at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(d)) + bias;
  const at::Tensor y = at::matmul(at::softmax(logits, -1), v);
  const at::Tensor joined = y.transpose(1, 2).contiguous().view({batch, length, heads * d});
  return w.norm("layer_norm", w.linear("fc", joined) + src, 1e-6);
}

at::Tensor outer_product_mean(const Weights& w, const at::Tensor& src) {
  const at::Tensor x = w.linear("proj_down1", src);
  return w.linear("proj_down2", at::einsum("bid,bjc->bijcd", {x, x}).flatten(3));
}

at::Tensor relative_position(const Weights& w, int64_t length) {
  const at::Tensor weight = w.get("linear.weight");
  const at::TensorOptions options = at::TensorOptions(weight.device()).dtype(at::kLong);
  const at::Tensor position = at::arange(length, options);
  const at::Tensor d = (position.unsqueeze(1) - position.unsqueeze(0)).clamp(-8, 8);
  const at::Tensor one_hot = d.unsqueeze(-1).eq(at::arange(-8, 9, options));
  return w.linear("linear", one_hot.to(weight.scalar_type())).unsqueeze(0);
}

at::Tensor triangle_multiply(const Weights& w, const at::Tensor& pair, const at::Tensor& mask,
                             const char* mix) {
  const at::Tensor x = w.norm("norm", pair);
  const at::Tensor left = w.linear("left_proj", x) * mask * w.linear("left_gate", x).sigmoid();
  const at::Tensor right = w.linear("right_proj", x) * mask * w.linear("right_gate", x).sigmoid();
  const at::Tensor out_gate = w.linear("out_gate", x).sigmoid();
  const at::Tensor out = w.norm("to_out_norm", at::einsum(mix, {left, right}));
  return w.linear("to_out", out * out_gate);
}

at::Tensor triangle_attention(const Weights& w, const at::Tensor& pair, bool row) {
  constexpr int64_t kHeads = 4;
  const at::Tensor z = w.norm("norm", pair);
  const auto heads = [&](const at::Tensor& x) {
    return x.view({x.size(0), x.size(1), x.size(2), kHeads, x.size(3) / kHeads});
  };
  const auto qkv = w.linear("to_qkv", z).chunk(3, -1);
  const at::Tensor q = heads(qkv[0]), k = heads(qkv[1]), v = heads(qkv[2]);
  const at::Tensor b = w.linear("linear_for_pair", z);
  const double scale = std::sqrt(static_cast<double>(q.size(-1)));
  const at::Tensor logits = at::einsum(row ? "brihd,brjhd->brijh" : "bilhd,bjlhd->bijlh", {q, k});
  const at::Tensor attention = at::softmax(logits / scale + b.unsqueeze(row ? 1 : 3), row ? 3 : 2);
  const at::Tensor out =
      at::einsum(row ? "brijh,brjhd->brihd" : "bijlh,bjlhd->bilhd", {attention, v});
  return w.linear("to_out", w.linear("to_gate.0", z).sigmoid() * out.flatten(3));
}

at::Tensor pair_transition(const Weights& w, const at::Tensor& pair) {
  return w.linear("3", at::relu(w.linear("1", w.norm("0", pair))));
}

void layer(const RibonanzaNet& net, const Weights& w, at::Tensor& src, at::Tensor& pair,
           const at::Tensor& mask) {
  const at::Tensor kernel = w.get("conv.weight");
  src = src + at::conv1d(src.permute({0, 2, 1}), kernel, w.get("conv.bias"), /*stride=*/1,
                         /*padding=*/kernel.size(2) / 2)
                  .permute({0, 2, 1});
  src = w.norm("norm3", src);
  const at::Tensor bias =
      w.linear("pairwise2heads", w.norm("pairwise_norm", pair)).permute({0, 3, 1, 2});
  src = w.norm("norm1", src + self_attention(w.below("self_attn"), src, bias, net.nhead));
  src = w.norm("norm2", src + w.linear("linear2", at::gelu(w.linear("linear1", src))));

  pair = pair + outer_product_mean(w.below("outer_product_mean"), src);
  pair = pair + triangle_multiply(w.below("triangle_update_out"), pair, mask, "bikd,bjkd->bijd");
  pair = pair + triangle_multiply(w.below("triangle_update_in"), pair, mask, "bkjd,bkid->bijd");
  if (net.use_triangular_attention) {
    pair = pair + triangle_attention(w.below("triangle_attention_out"), pair, true);
    pair = pair + triangle_attention(w.below("triangle_attention_in"), pair, false);
  }
  pair = pair + pair_transition(w.below("pair_transition"), pair);
}

// Prefixes of names, ours and theirs, as they follow each other in the model.
using Names = std::vector<std::pair<std::string, std::string>>;

Names names_of(const RibonanzaNet& net) {
  Names out = {{"blocks.0.embedding.", "encoder."},
               {"blocks.1.", "outer_product_mean."},
               {"blocks.2.", "pos_encoder."}};
  Names block = {{"0.conv.", "conv."},
                 {"0.norm.", "norm3."},
                 {"1.norm1.", "norm1."},
                 {"1.norm2.", "norm2."},
                 {"1.linear1.", "linear1."},
                 {"1.linear2.", "linear2."},
                 {"1.qkv.", "self_attn.qkv."},
                 {"1.out.", "self_attn.fc."},
                 {"1.attention_norm.", "self_attn.layer_norm."},
                 {"1.pair_norm.", "pairwise_norm."},
                 {"1.pair_bias.", "pairwise2heads."},
                 {"2.", "outer_product_mean."},
                 {"3.", "triangle_update_out."},
                 {"4.", "triangle_update_in."}};
  std::string transition = "5.";
  if (net.use_triangular_attention) {
    for (const auto& [index, name] :
         {std::pair("5.", "triangle_attention_out."), std::pair("6.", "triangle_attention_in.")}) {
      block.emplace_back(cat(index, "to_gate."), cat(name, "to_gate.0."));
      block.emplace_back(index, name);
    }
    transition = "7.";
  }
  block.emplace_back(transition + "norm.", "pair_transition.0.");
  block.emplace_back(transition + "linear1.", "pair_transition.1.");
  block.emplace_back(transition + "linear2.", "pair_transition.3.");

  // All layers but the last are one repeat, the last another.
  const int64_t last = net.nlayers - 1;
  for (int64_t i = 0; i <= last; ++i) {
    const std::string node = i < last ? cat(3, ".", i) : cat(last > 0 ? 4 : 3, ".", 0);
    for (const auto& [ours, theirs] : block) {
      out.emplace_back(cat("blocks.", node, ".", ours),
                       cat("transformer_encoder.", i, ".", theirs));
    }
  }
  out.emplace_back(cat("blocks.", last > 0 ? 5 : 4, ".out."), "decoder.");
  return out;
}

// `name` with a prefix of one side replaced by its partner of the other.
std::string rename(const std::string& name, const Names& names, bool to_theirs) {
  for (const auto& [ours, theirs] : names) {
    const std::string& from = to_theirs ? ours : theirs;
    if (name.starts_with(from)) return (to_theirs ? theirs : ours) + name.substr(from.size());
  }
  throw Error("nothing corresponds to the weight " + name);
}

const std::vector<std::string> kQueryKeyValue = {"self_attn.w_qs.weight", "self_attn.w_ks.weight",
                                                 "self_attn.w_vs.weight"};
const std::string kJoined = "self_attn.qkv.weight";

}  // namespace

at::Tensor ribonanzanet_reference(const RibonanzaNet& net, const Tensors& weights,
                                  const at::Tensor& tokens) {
  const Weights w(weights, "");
  at::Tensor src = at::embedding(w.get("encoder.weight"), tokens);
  const at::Tensor ones = at::ones({tokens.size(0), tokens.size(1), 1}, src.options());
  const at::Tensor mask = at::matmul(ones, ones.permute({0, 2, 1})).unsqueeze(-1);
  at::Tensor pair = outer_product_mean(w.below("outer_product_mean"), src);
  pair = pair + relative_position(w.below("pos_encoder"), tokens.size(1));
  for (int64_t i = 0; i < net.nlayers; ++i) {
    layer(net, w.below(cat("transformer_encoder.", i)), src, pair, mask);
  }
  return w.linear("decoder", src);
}

std::string ribonanzanet_model(const RibonanzaNet& net, bool checkpoint) {
  const auto blocks = [&](int64_t kernel) {
    return cat(
        "    - {type: conv, kernel: ", kernel,
        ", norm_position: post, activation: none, dropout: 0}\n"
        "    - {type: transformer, heads: ",
        net.nhead,
        ", norm_position: post_twice, position: none, pair_norm_bias: true, out_bias: false, "
        "dropout: 0}\n"
        "    - {type: outer_product_mean}\n"
        "    - {type: triangle_multiply, direction: outgoing, dropout: 0}\n"
        "    - {type: triangle_multiply, direction: ingoing, dropout: 0}\n",
        net.use_triangular_attention
            ? "    - {type: triangle_attention, wise: row, dropout: 0}\n"
              "    - {type: triangle_attention, wise: column, dropout: 0}\n"
            : "",
        "    - {type: pair_transition}\n");
  };
  const auto layers = [&](int64_t count, int64_t kernel) {
    if (count == 0) return std::string();
    return cat("  - repeat: ", count, "\n    checkpoint: ", checkpoint ? "true" : "false",
               "\n    blocks:\n", blocks(kernel));
  };
  return cat("streams: {single: ", net.ninp, ", pair: ", net.pairwise_dimension,
             "}\nblocks:\n"
             "  - {type: embedding}\n"
             "  - {type: outer_product_mean}\n"
             "  - {type: relative_position}\n",
             layers(net.nlayers - 1, net.k), layers(1, 1),
             "  - {type: reactivity_head, norm: false}\n");
}

Tensors to_reference_names(const RibonanzaNet& net, const Tensors& ours) {
  const Names names = names_of(net);
  Tensors out;
  for (const auto& [name, tensor] : ours) {
    const std::string theirs = rename(name, names, true);
    if (!theirs.ends_with(kJoined)) {
      out[theirs] = tensor;
      continue;
    }
    const auto parts = tensor.chunk(3, 0);
    const std::string stem = theirs.substr(0, theirs.size() - kJoined.size());
    for (size_t i = 0; i < 3; ++i) out[stem + kQueryKeyValue[i]] = parts[i];
  }
  return out;
}

Tensors from_reference_names(const RibonanzaNet& net, const Tensors& theirs) {
  const Names names = names_of(net);
  Tensors out;
  std::map<std::string, std::vector<at::Tensor>> joined;
  for (const std::string& part : kQueryKeyValue) {
    for (const auto& [name, tensor] : theirs) {
      if (!name.ends_with(part)) continue;
      joined[name.substr(0, name.size() - part.size()) + kJoined].push_back(tensor);
    }
  }
  for (const auto& [name, parts] : joined) out[rename(name, names, false)] = at::cat(parts);
  for (const auto& [name, tensor] : theirs) {
    const auto is_suffix = [&](const std::string& part) { return name.ends_with(part); };
    if (std::none_of(kQueryKeyValue.begin(), kQueryKeyValue.end(), is_suffix)) {
      out[rename(name, names, false)] = tensor;
    }
  }
  return out;
}

}  // namespace ribo::testing
