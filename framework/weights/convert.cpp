#include "weights/convert.h"

namespace ribo {
namespace {

// Empty, and `out` filled, where the renaming can be done.
std::string apply(const Renaming& renaming, const Tensors& tensors, Tensors& out) {
  const at::Tensor& first = tensors.at(renaming.from[0]);
  if (renaming.from.size() == 1 && renaming.to.size() == 1) {
    out[renaming.to[0]] = first;
    return "";
  }
  const auto parts = static_cast<int64_t>(renaming.to.size());
  if (first.dim() == 0 || first.size(0) % parts != 0) {
    return cat(renaming.from[0], ": shape ", first.sizes(), " cannot be cut into ", parts,
               " equal parts");
  }
  if (renaming.from.size() == 1) {
    const int64_t size = first.size(0) / parts;
    for (int64_t i = 0; i < parts; ++i) {
      out[renaming.to[static_cast<size_t>(i)]] = first.narrow(0, i * size, size);
    }
    return "";
  }
  std::vector<at::Tensor> joined;
  for (const std::string& name : renaming.from) {
    joined.push_back(tensors.at(name));
    // Parts of other sizes could not be told apart on the way back.
    if (joined.back().sizes() != first.sizes() ||
        joined.back().scalar_type() != first.scalar_type()) {
      return cat(name, ": shape ", joined.back().sizes(), " of ",
                 c10::toString(joined.back().scalar_type()), " instead of ", first.sizes(), " of ",
                 c10::toString(first.scalar_type()), " as ", renaming.from[0]);
    }
  }
  out[renaming.to[0]] = at::cat(joined);
  return "";
}

}  // namespace

Conversion convert(const Tensors& tensors, const NameMap& map, Side from) {
  RenamingPlan plan = map.plan(names_of(tensors), from);
  Conversion out;
  out.misfits.surplus = std::move(plan.surplus);
  out.misfits.missing = std::move(plan.missing);
  for (const Renaming& renaming : plan.renamings) {
    const std::string wrong = apply(renaming, tensors, out.tensors);
    if (!wrong.empty()) out.misfits.misshapen.push_back(wrong);
  }
  return out;
}

std::vector<std::string> names_of(const Tensors& tensors) {
  std::vector<std::string> out;
  for (const auto& [name, tensor] : tensors) out.push_back(name);
  return out;
}

}  // namespace ribo
