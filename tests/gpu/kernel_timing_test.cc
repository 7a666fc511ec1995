// How long each fused operation takes on a GPU, forward and backward, beside its plain form, and at
// how many bytes a second; recorded and replayed, so that only the device's time counts. Not run
// unless asked for: gpu_tests --gtest_also_run_disabled_tests --gtest_filter='GpuTimings*'.
#include <ATen/ops/ones_like.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "kernels/gpu/device_operations.h"
#include "kernels/nearest_code.h"
#include "tests/gpu/gpu_fixture.h"
#include "tests/kernels/operation_cases.h"

namespace lf {
namespace {

class GpuTimings : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (device().kernels() == nullptr) GTEST_SKIP() << "the plugin was built without nvcc";
    device_of_cases() = at::Device(at::kCUDA, 0);
  }
  void TearDown() override { device_of_cases() = at::kCPU; }

  // Median milliseconds of a replay; every replay finds its inputs out of the cache, or in it, as
  // it left them.
  static double milliseconds(const std::function<void()>& work) {
    constexpr int kReplays = 15;
    const std::unique_ptr<RecordedStep> recorded = device().record(work, 2);
    const c10::impl::VirtualGuardImpl guard(at::kCUDA);
    const c10::Stream stream = guard.getStream(at::Device(at::kCUDA, 0));
    std::vector<double> times;
    for (int i = 0; i < kReplays; ++i) {
      c10::Event begin(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT),
          end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
      begin.record(stream);
      recorded->replay();
      end.record(stream);
      end.synchronize();
      times.push_back(begin.elapsedTime(end));
    }
    std::nth_element(times.begin(), times.begin() + kReplays / 2, times.end());
    return times[kReplays / 2];
  }

  static void run(const Case& one, Form form, bool backward) {
    const ForcedForm forced(form);
    if (!backward) {
      const at::NoGradGuard no_grad;
      (void)one.run();
      return;
    }
    const at::Tensor y = one.run();
    (void)torch::autograd::grad({y}, one.inputs, {at::ones_like(y)});
  }

  // `bytes` that must move, forward and backward.
  static void compare(const Case& one, double bytes) {
    double time[2][2];
    for (const bool backward : {false, true}) {
      for (const Form form : {Form::kReference, Form::kFused}) {
        time[backward][form == Form::kFused] = milliseconds([&] { run(one, form, backward); });
      }
    }
    std::printf("%-52s %9.3f %8.3f %6.2fx %9.3f %8.3f %6.2fx %8.0f\n", one.shape.c_str(),
                time[0][0], time[0][1], time[0][0] / time[0][1], time[1][0], time[1][1],
                time[1][0] / time[1][1], bytes / time[1][1] * 1e-6);
    std::fflush(stdout);
  }
};

at::Tensor leaf(at::IntArrayRef shape, at::ScalarType type) {
  return normal(shape).to(type).requires_grad_();
}

Case timed_norm(int64_t images, int64_t side, int64_t channels, int64_t groups,
                at::ScalarType type) {
  const at::Tensor x = leaf({images, side * side, channels}, type);
  const at::Tensor gain = weight({images, channels}), shift = weight({images, channels});
  return {lf::str(groups > 0 ? "group" : "rms", " norm ", images, "x", side, "x", side, "x",
                  channels, type == at::kFloat ? " fp32" : " bf16"),
          {x, gain, shift},
          [=] { return norm_silu(x, {groups}, gain, shift); }};
}

Case timed_attention(const char* name, Sequences s, int64_t width, int64_t heads, int64_t head,
                     bool bias) {
  AttentionWeights w;
  w.heads = heads;
  w.scale = 0.2;
  w.norm_weight = weight({width});
  w.query = weight({heads * head, width}, 0.05);
  w.key_value = weight({2 * heads * head, width}, 0.05);
  w.out = weight({width, heads * head}, 0.05);
  w.query_scale = weight({head});
  w.key_scale = weight({head});
  const at::Tensor x = weight({s.outer, s.tokens, s.inner, width});
  Case one{
      lf::str(name, " ", s.outer, "x", s.tokens, "x", s.inner, "x", width, ", ", heads, "x", head),
      {x, w.norm_weight, w.query, w.key_value, w.out, w.query_scale, w.key_scale},
      {}};
  if (bias) {
    w.bias = weight({heads, s.tokens, s.tokens});
    one.inputs.push_back(w.bias);
  }
  one.run = [=] { return attention(x, s, w); };
  return one;
}

Case timed_linear_attention(int64_t frames, int64_t side, int64_t width) {
  LinearAttentionWeights w;
  w.heads = 4;
  w.scale = 0.2;
  w.norm_weight = weight({width});
  w.query_key_value = weight({3 * 4 * 32, width}, 0.05);
  w.out = weight({width, 4 * 32}, 0.05);
  const at::Tensor x = weight({frames, side * side, width});
  return {lf::str("linear attention ", frames, "x", side, "x", side, "x", width, ", 4x32"),
          {x, w.norm_weight, w.query_key_value, w.out},
          [=] { return linear_attention(x, w); }};
}

Case timed_feed_forward(int64_t rows, int64_t width) {
  const int64_t hidden = 8 * width / 3;
  FeedForwardWeights w;
  w.gated = true;
  w.norm_weight = weight({width});
  w.norm_bias = weight({width});
  w.in = weight({2 * hidden, width}, 0.05);
  w.out = weight({width, hidden}, 0.05);
  const at::Tensor x = weight({rows, width});
  return {lf::str("feed forward ", rows, "x", width, ", ", hidden),
          {x, w.norm_weight, w.norm_bias, w.in, w.out},
          [=] { return feed_forward(x, w); }};
}

Case timed_depthwise(int64_t clips, int64_t steps, int64_t side, int64_t channels,
                     at::ScalarType type) {
  const at::Tensor x = leaf({clips, steps, side, side, channels}, type);
  const at::Tensor taps = weight({channels, 1, 3, 3, 3}), bias = weight({channels});
  return {lf::str("depthwise ", x.sizes(), type == at::kFloat ? " fp32" : " bf16"),
          {x, taps, bias},
          [=] { return causal_depthwise(x, taps, bias); }};
}

TEST_F(GpuTimings, DISABLED_OfEachOperation) {
  std::printf("%-52s %9s %8s %7s %9s %8s %7s %8s\n", "ms: plain, fused", "forward", "", "",
              "and back", "", "", "GB/s");
  const auto size = [](const Case& one) {
    return static_cast<double>(one.inputs[0].numel() * one.inputs[0].element_size());
  };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t groups : {0, 8}) {
      for (const auto& [side, channels] :
           {std::pair<int64_t, int64_t>{64, 64}, {32, 128}, {16, 256}, {8, 512}}) {
        const Case one = timed_norm(128, side, channels, groups, type);
        compare(one, 5 * size(one));
      }
    }
    const Case one = timed_depthwise(16, 9, 8, 512, type);
    std::optional<Bfloat16Autocast> autocast;  // convolutions want one type
    if (type == at::kBFloat16) autocast.emplace();
    compare(one, 5 * size(one));
  }
  const std::vector<Case> layers = {
      timed_attention("in time", Sequences{8, 16, 1024}, 128, 8, 32, true),
      timed_attention("in time", Sequences{8, 8, 4096}, 64, 8, 32, true),
      timed_attention("in time", Sequences{16, 9, 64}, 512, 8, 64, true),
      timed_attention("in space", Sequences{144, 64, 1}, 512, 8, 64, true),
      timed_attention("in space", Sequences{80, 16, 1}, 128, 4, 32, true),
      timed_linear_attention(128, 32, 128),
      timed_linear_attention(64, 64, 64),
      timed_feed_forward(16 * 9 * 64, 512),
      timed_feed_forward(80 * 16, 128),
  };
  for (const bool half : {false, true}) {
    std::printf("%s\n", half ? "under bfloat16 autocast" : "in single precision");
    for (const Case& one : layers) {
      std::optional<Bfloat16Autocast> autocast;
      if (half) autocast.emplace();
      compare(one, 4 * size(one));  // x, y and their slopes
    }
  }
}

// The kernels between the products by themselves.
TEST_F(GpuTimings, DISABLED_OfAttentionBetweenProducts) {
  std::printf("%-52s %9s %8s %9s %8s\n", "ms and GB/s", "forward", "", "backward", "");
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const auto& [s, heads, head] :
         {std::tuple<Sequences, int64_t, int64_t>{{8, 16, 1024}, 8, 32},
          {{8, 8, 4096}, 8, 32},
          {{16, 9, 256}, 8, 64},
          {{16, 32, 256}, 8, 64},
          {{256, 64, 1}, 8, 64}}) {
      const int64_t rows = s.outer * s.tokens * s.inner, wide = heads * head;
      const at::Tensor maps = normal({rows, 3 * wide}).to(type);
      const at::Tensor mixed = normal({rows, wide}).to(type), d_maps = at::empty_like(maps);
      const bool half = type == at::kBFloat16;
      DeviceAttention task;
      task.outer = s.outer;
      task.tokens = s.tokens;
      task.inner = s.inner;
      task.heads = heads;
      task.head_width = head;
      task.scale = 0.2F;
      task.maps = {maps.const_data_ptr(), half};
      task.mixed = {mixed.mutable_data_ptr(), half};
      task.d_mixed = {mixed.const_data_ptr(), half};
      task.d_maps = {d_maps.mutable_data_ptr(), half};
      const double forward = milliseconds([&] { device_operations()->attention(task); });
      const double backward = milliseconds([&] { device_operations()->attention_back(task); });
      const double unit = static_cast<double>(mixed.numel() * mixed.element_size()) * 1e-6;
      std::printf("%-52s %9.3f %8.0f %9.3f %8.0f\n",
                  lf::str(s.outer, "x", s.tokens, "x", s.inner, ", ", heads, "x", head,
                          half ? " bf16" : " fp32")
                      .c_str(),
                  forward, 4 * unit / forward, backward, 7 * unit / backward);
      std::fflush(stdout);
    }
  }
}

TEST_F(GpuTimings, DISABLED_OfNearestCode) {
  for (const auto& [count, dim, size] : {std::tuple<int64_t, int64_t, int64_t>{65536, 32, 8192},
                                         {9216, 512, 1024},
                                         {1280, 128, 512}}) {
    const at::Tensor rows = normal({count, dim}), codes = normal({size, dim});
    double time[2];
    for (const Form form : {Form::kReference, Form::kFused}) {
      time[form == Form::kFused] = milliseconds([&] {
        const ForcedForm forced(form);
        (void)nearest_code(rows, codes);
      });
    }
    std::printf("%-52s %9.3f %8.3f %6.2fx %8.1f TFLOP/s\n",
                lf::str("nearest code ", count, "x", dim, " of ", size).c_str(), time[0], time[1],
                time[0] / time[1], 2e-9 * static_cast<double>(count * dim * size) / time[1]);
  }
}

}  // namespace
}  // namespace lf
