// bf16 autocast for the lifetime of an object: matrix products and convolutions run in bf16,
// operations that need it in fp32. LibTorch's C++ API has the switches but no guard.
#pragma once

#include <ATen/autocast_mode.h>

#include "run.pb.h"

namespace lf {

class Autocast {
 public:
  Autocast(Precision precision, at::DeviceType device) : on_(precision == BF16), device_(device) {
    if (!on_) return;
    before_ = at::autocast::is_autocast_enabled(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!on_) return;
    // The cache of cast weights must not outlive the step that updates them.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool on_, before_ = false;
  at::DeviceType device_;
};

}  // namespace lf
