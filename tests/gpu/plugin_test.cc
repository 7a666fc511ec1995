// The CUDA plugin on a device: recorded steps, page-locked memory, NCCL in a world of one. Without
// a GPU every test here is skipped.
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstring>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "base/error.h"
#include "comm/device_backend.h"
#include "tests/gpu/gpu_fixture.h"

namespace lf {
namespace {

class GpuPlugin : public OnGpu {
 protected:
  static at::TensorOptions on_gpu(at::ScalarType type) {
    return at::TensorOptions().device(at::kCUDA).dtype(type);
  }
};

TEST_F(GpuPlugin, DescriptionNamesTheDeviceAndTheLibraries) {
  const std::string text = device().description();
  EXPECT_NE(text.find(survey_gpus().gpus[0].name), std::string::npos) << text;
  EXPECT_NE(text.find("CUDA"), std::string::npos) << text;
  EXPECT_NE(text.find("NCCL"), std::string::npos) << text;
}

TEST_F(GpuPlugin, ARecordedStepReplaysOnRefilledInputs) {
  at::Tensor input = at::zeros({1000}, on_gpu(at::kFloat));
  at::Tensor sum = at::zeros({1000}, on_gpu(at::kFloat));
  int calls = 0;
  const auto step = [&] {
    ++calls;
    sum.add_(at::add(input, 1));
  };
  const std::unique_ptr<RecordedStep> recorded = device().record(step, 3);
  EXPECT_EQ(calls, 4);  // the fourth was recorded, not run
  EXPECT_TRUE(at::equal(sum.cpu(), at::full({1000}, 3, at::kFloat)));
  for (int i = 1; i <= 3; ++i) {
    input.fill_(i);
    recorded->replay();
  }
  EXPECT_EQ(calls, 4);
  EXPECT_TRUE(at::equal(sum.cpu(), at::full({1000}, 3 + 2 + 3 + 4, at::kFloat)));
}

TEST_F(GpuPlugin, AStepThatThrowsWhileRecordedLeavesTheDeviceUsable) {
  at::Tensor value = at::zeros({8}, on_gpu(at::kFloat));
  int calls = 0;
  const auto step = [&] {
    value.add_(1);
    if (++calls == 2) fail(Code::kNotFinite, "the second time");
  };
  EXPECT_THROW((void)device().record(step, 1), Error);
  value.add_(1);
  EXPECT_TRUE(at::equal(value.cpu(), at::full({8}, 2, at::kFloat)));
}

TEST_F(GpuPlugin, PinnedMemoryIsWhatLibTorchCallsPinned) {
  constexpr int64_t kBytes = 1 << 20;
  const std::shared_ptr<void> memory = device().pinned(kBytes);
  std::memset(memory.get(), 42, kBytes);
  const at::Tensor host = at::from_blob(memory.get(), {kBytes}, at::kByte);
  EXPECT_TRUE(host.is_pinned());
  const at::Tensor copy = host.to(at::kCUDA, /*non_blocking=*/true);
  EXPECT_TRUE(at::equal(copy.cpu(), at::full({kBytes}, 42, at::kByte)));
}

TEST_F(GpuPlugin, MorePinnedMemoryThanThereIsIsAUsageError) {
  try {
    (void)device().pinned(size_t{1} << 60);
    FAIL() << "an exabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
  }
  EXPECT_NE(device().pinned(4096), nullptr);
}

TEST_F(GpuPlugin, NcclSumsInAWorldOfOne) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  const auto backend =
      open_plugin().backend->make_nccl_backend(store, 0, 1, 0, std::chrono::minutes(1));
  std::vector<at::Tensor> tensors = {at::arange(1000, on_gpu(at::kFloat))};
  backend->allreduce(tensors)->wait();
  EXPECT_TRUE(at::equal(tensors[0].cpu(), at::arange(1000, at::kFloat)));
  backend->shutdown();
}

TEST_F(GpuPlugin, ADeviceThatIsNotThereIsAUsageError) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  try {
    (void)open_plugin().backend->make_nccl_backend(store, 0, 1, 4096, std::chrono::minutes(1));
    FAIL() << "GPU 4096 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
  }
}

}  // namespace
}  // namespace lf
