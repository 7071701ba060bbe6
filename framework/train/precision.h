// Autocast as a scope.
#pragma once

#include <ATen/autocast_mode.h>

#include <string>

namespace ribo {

/// Inside the scope, matrix products and convolutions run in bfloat16 when `precision` is "bf16".
class AutocastScope {
 public:
  AutocastScope(at::DeviceType device, const std::string& precision)
      : device_(device), before_(at::autocast::is_autocast_enabled(device)) {
    if (precision != "bf16") return;
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::increment_nesting();
    active_ = true;
  }
  ~AutocastScope() {
    if (!active_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, before_);
  }
  AutocastScope(const AutocastScope&) = delete;

 private:
  at::DeviceType device_;
  bool before_;
  bool active_ = false;
};

}  // namespace ribo
