// Whole networks with fused and reference operations: the same output and gradients.
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>

#include "kernels/dispatch.h"
#include "model/autocast.h"
#include "model/recompute.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

// A network's output and the gradients of its weights and noisy clips, weighted so that sums are
// not around zero.
Tensors results(const SmallNetwork& network, NoisyClips clips) {
  clips.z_BTHWC = clips.z_BTHWC.detach().requires_grad_();
  Tensors inputs = {clips.z_BTHWC};
  for (const NamedTensor& weight : network.table.weights()) {
    if (weight.tensor.requires_grad()) inputs.push_back(weight.tensor);
  }
  const at::Tensor y = (*network.denoiser)(clips);
  const at::Tensor dy = ((at::arange(y.numel(), at::kFloat) * 0.7).sin() + 0.5).view(y.sizes());
  Tensors all = {y.detach()};
  for (const at::Tensor& gradient :
       torch::autograd::grad({y}, inputs, {dy.to(y.scalar_type())}, {}, false, true)) {
    all.push_back(gradient);
  }
  return all;
}

// The same network twice.
struct BothForms {
  explicit BothForms(const std::function<std::unique_ptr<SmallNetwork>(const KernelChoice&)>& make)
      : plain(make({Form::kReference})), fused(make({Form::kFused})) {
    wake_up(plain->table);
    wake_up(fused->table);
  }
  std::unique_ptr<SmallNetwork> plain, fused;
};

BothForms both_forms(const std::string& kind, int frames, bool position = true) {
  return BothForms([&](const KernelChoice& kernels) {
    return small_network(kind, frames, position, 0, kernels);
  });
}

double gap(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / (b.norm() + 1e-12)).item<double>();
}

void expect_agreement(const BothForms& forms, const NoisyClips& clips) {
  const Tensors plain = results(*forms.plain, clips), fused = results(*forms.fused, clips);
  ASSERT_EQ(plain.size(), fused.size());
  EXPECT_LT(gap(fused[0], plain[0]), 1e-5);
  double largest = 0;
  for (size_t i = 1; i < plain.size(); ++i) {
    ASSERT_EQ(plain[i].defined(), fused[i].defined()) << i;
    if (plain[i].defined()) largest = std::max(largest, plain[i].norm().item<double>());
  }
  for (size_t i = 1; i < plain.size(); ++i) {
    // Skips gradients that are only rounding errors (of a shift that a norm removes).
    if (!plain[i].defined() || plain[i].norm().item<double>() < 1e-5 * largest) continue;
    EXPECT_LT(gap(fused[i], plain[i]), 1e-4) << i << " " << plain[i].sizes();
  }
}

class KernelForms : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, KernelForms, testing::Values("unet", "unet3d"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(KernelForms, AgreeOnAVideo) {
  for (const bool position : {false, true}) {
    expect_agreement(both_forms(GetParam(), 4, position), noisy_clips(2, 4));
  }
}

// In bf16 both are equally close to fp32.
TEST_P(KernelForms, AreAsExactAsEachOtherUnderAutocast) {
  const BothForms forms = both_forms(GetParam(), 4);
  const NoisyClips clips = noisy_clips(2, 4);
  const Tensors truth = results(*forms.plain, clips);
  Tensors plain, fused;
  {
    const Autocast autocast(BF16, at::kCPU);
    plain = results(*forms.plain, clips);
    fused = results(*forms.fused, clips);
  }
  double of_plain = 0, of_fused = 0, all = 0;
  for (size_t i = 1; i < truth.size(); ++i) {
    if (!truth[i].defined()) continue;
    of_plain += (plain[i] - truth[i]).square().sum().item<double>();
    of_fused += (fused[i] - truth[i]).square().sum().item<double>();
    all += truth[i].square().sum().item<double>();
  }
  EXPECT_LT(gap(fused[0].to(at::kFloat), truth[0]),
            1.2 * gap(plain[0].to(at::kFloat), truth[0]) + 1e-3);
  EXPECT_LT(std::sqrt(of_fused / all), 1.2 * std::sqrt(of_plain / all) + 1e-3);
  EXPECT_LT(std::sqrt(of_fused / all), 0.05);
}

TEST_P(KernelForms, AgreeOnAnImage) {
  expect_agreement(both_forms(GetParam(), 1), noisy_clips(3, 1));
}

TEST_P(KernelForms, AgreeOnFramesWithTheirOwnRolesAndNoiseLevels) {
  const BothForms forms = both_forms(GetParam(), 4);
  NoisyClips clips = noisy_clips(2, 5);
  clips.signal_BT = at::arange(10).view({2, 5}).to(at::kFloat) * 90;
  const auto video = static_cast<uint8_t>(FrameRole::kLatent),
             image = static_cast<uint8_t>(FrameRole::kImage);
  for (const auto& roles :
       {at::tensor({video, video, image, video, image}, at::kByte),
        at::tensor({video, image, image, image, image, image, video, video, video, video},
                   at::kByte)}) {
    clips.role_BT = roles.view({-1, 5});
    expect_agreement(forms, clips);
  }
}

TEST_P(KernelForms, AgreeOnClipsWithDifferentFrameIndices) {
  const BothForms forms = both_forms(GetParam(), 4);
  NoisyClips clips = noisy_clips(2, 4);
  clips.index_BT = at::tensor({0, 1, 5, 9, 2, 3, 4, 30}, at::kLong).view({2, 4});
  expect_agreement(forms, clips);
}

// Every kind of temporal attention of the image network, and both ways of conditioning on noise
// levels.
TEST(KernelFormsOfTheUnet, Agree) {
  for (const auto temporal : {UnetConfig::AFTER, UnetConfig::RELATIVE, UnetConfig::VOLUME}) {
    for (const bool scale_shift : {false, true}) {
      UnetConfig config;
      config.set_width(16);
      config.add_multipliers(1);
      config.add_multipliers(2);
      config.set_blocks(1);
      config.add_attention(8);
      config.set_heads(2);
      config.set_temporal(temporal);
      config.set_scale_shift(scale_shift);
      const BothForms forms([&](const KernelChoice& kernels) {
        auto network = std::make_unique<SmallNetwork>(kernels);
        network->denoiser =
            make_unet(config, {{3, 8, 8, 3}, 3, 0, 0, false}, Scope(network->table));
        return network;
      });
      NoisyClips clips = noisy_clips(2, 3);
      clips.signal_BT = at::arange(6).view({2, 3}).to(at::kFloat) * 150;
      SCOPED_TRACE(UnetConfig::Temporal_Name(temporal) + (scale_shift ? ", scale and shift" : ""));
      expect_agreement(forms, clips);
    }
  }
}

}  // namespace
}  // namespace lf
