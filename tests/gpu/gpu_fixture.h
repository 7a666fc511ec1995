// A test that needs a GPU and the plugin; skipped, with the reason, where there is none.
#pragma once

#include <gtest/gtest.h>

#include "kernels/gpu/device.h"
#include "launch/plugin.h"

namespace lf {

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (survey_gpus().gpus.empty()) {
      GTEST_SKIP() << "no GPU here"
                   << (survey_gpus().problem.empty() ? "" : ": " + survey_gpus().problem);
    }
    ASSERT_NE(open_plugin().device, nullptr) << open_plugin().problem;
    ASSERT_NE(open_plugin().backend, nullptr);
    use_device(open_plugin().device);
  }
  static Device& device() { return *open_plugin().device; }
};

}  // namespace lf
