// A test that needs a GPU and the plugin; skipped, with the reason, where there is none.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/gpu/device.h"
#include "launch/plugin.h"

namespace lf {

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("LASTFRAME_GPU_KERNELS", "1", /*overwrite=*/1);  // before the plugin is opened
    if (survey_gpus().gpus.empty()) {
      GTEST_SKIP() << "no GPU here"
                   << (survey_gpus().problem.empty() ? "" : ": " + survey_gpus().problem);
    }
    ASSERT_NE(open_plugin().device, nullptr) << open_plugin().problem;
    ASSERT_NE(open_plugin().backend, nullptr);
  }
  static Device& device() { return *open_plugin().device; }
};

}  // namespace lf
