// `lastframe bench kernels`: each operation of src/kernels at sizes of the configs, its fused form
// beside its plain form over LibTorch: time forward and backward, and memory. Prints the table of
// src/kernels/README.md.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdio>
#include <functional>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/isa.h"
#include "base/json.h"
#include "kernels/attention.h"
#include "kernels/convolution.h"
#include "kernels/depthwise.h"
#include "kernels/feed_forward.h"
#include "kernels/linear_attention.h"
#include "kernels/nearest_code.h"
#include "kernels/norm_silu.h"
#include "kernels/peak_bytes.h"
#include "kernels/skinny_matmul.h"
#include "kernels/token_layer.h"
#include "launch/bench/median.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "run.pb.h"

namespace lf {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

struct Case {
  const char* operation;
  const char* config;  // where the size is from
  std::string size;
  Tensors inputs;  // that take gradients; none: forward only
  std::function<Tensor(const KernelChoice&)> run;
};

Tensor weight(at::IntArrayRef shape, double scale = 1) {
  return (at::randn(shape) * scale).requires_grad_();
}

Case attention_case(const char* config, const Sequences& s, int64_t width, int64_t heads,
                    int64_t head_width, bool cosine) {
  AttentionWeights w;
  w.heads = heads;
  w.scale = cosine ? 8 : 0.2;
  w.norm_weight = weight({width});
  w.query = weight({heads * head_width, width}, 0.05);
  w.key_value = weight({2 * heads * head_width, width}, 0.05);
  w.out = weight({width, heads * head_width}, 0.05);
  w.bias = weight({heads, s.tokens, s.tokens});
  const Tensor x = weight({s.outer, s.tokens, s.inner, width});
  Tensors inputs = {x, w.norm_weight, w.query, w.key_value, w.out, w.bias};
  if (cosine) {
    inputs.push_back(w.query_scale = weight({head_width}));
    inputs.push_back(w.key_scale = weight({head_width}));
  }
  return {
      "attention", config,
      str(s.outer, "x", s.tokens, "x", s.inner, "x", width, ", ", heads, " heads of ", head_width),
      inputs, [=](const KernelChoice& kernels) { return attention(kernels, x, s, w); }};
}

Case feed_forward_case(const char* config, int64_t rows, int64_t width) {
  const int64_t hidden = 8 * width / 3;
  FeedForwardWeights w;
  w.gated = true;
  w.norm_weight = weight({width});
  w.norm_bias = weight({width});
  w.in = weight({2 * hidden, width}, 0.05);
  w.out = weight({width, hidden}, 0.05);
  const Tensor x = weight({rows, width});
  return {"feed_forward",
          config,
          str(rows, "x", width, ", hidden ", hidden),
          {x, w.norm_weight, w.norm_bias, w.in, w.out},
          [=](const KernelChoice& kernels) { return feed_forward(kernels, x, w); }};
}

Case depthwise_case(const char* config, at::IntArrayRef shape) {
  const Tensor x = weight(shape), taps = weight({shape[4], 1, 3, 3, 3}), bias = weight({shape[4]});
  return {
      "depthwise", config, lf::str(x.sizes()), {x, taps, bias}, [=](const KernelChoice& kernels) {
        return causal_depthwise(kernels, x, taps, bias);
      }};
}

Case nearest_code_case(const char* config, int64_t rows, int64_t dim, int64_t codes) {
  const Tensor z = at::randn({rows, dim}), codebook = at::randn({codes, dim});
  return {"nearest_code",
          config,
          str(rows, "x", dim, " of ", codes),
          {},
          [=](const KernelChoice& kernels) { return nearest_code(kernels, z, codebook); }};
}

Case norm_case(const char* config, int64_t images, int64_t side, int64_t channels, int64_t groups) {
  const Tensor x = weight({images, side * side, channels}), gain = weight({1, channels}),
               shift = weight({1, channels});
  return {
      "norm_silu",
      config,
      str(groups > 0 ? "group" : "RMS", ", ", images, "x", side, "x", side, "x", channels),
      {x, gain, shift},
      [=](const KernelChoice& kernels) { return norm_silu(kernels, x, {groups}, gain, shift); }};
}

Case linear_attention_case(const char* config, int64_t frames, int64_t side, int64_t width) {
  LinearAttentionWeights w;
  w.heads = 8;
  w.scale = 0.2;
  w.norm_weight = weight({width});
  w.query_key_value = weight({3 * 8 * 32, width}, 0.05);
  w.out = weight({width, 8 * 32}, 0.05);
  const Tensor x = weight({frames, side * side, width});
  return {"linear_attention",
          config,
          str(frames, "x", side, "x", side, "x", width, ", 8 heads of 32"),
          {x, w.norm_weight, w.query_key_value, w.out},
          [=](const KernelChoice& kernels) { return linear_attention(kernels, x, w); }};
}

Case skinny_case(const char* config, int64_t rows, int64_t depth, int64_t features,
                 bool gradients) {
  const Tensor x = weight({rows, depth}), map = weight({features, depth}, 0.05),
               bias = weight({features});
  return {"skinny_matmul", config, str(rows, "x", depth, " to ", features),
          gradients ? Tensors{x, map, bias} : Tensors{},
          [=](const KernelChoice& kernels) { return linear_map(kernels, x, map, bias); }};
}

Case convolution_case(const char* config, int64_t images, int64_t side, int64_t in, int64_t out,
                      int64_t frames = 1) {
  const int64_t taps = frames > 1 ? 3 : 1;
  const Tensor x = weight({images, side, side, in}), bias = weight({out});
  const Tensor filters = (at::randn({out, taps * in, 3, 3}) * 0.05)
                             .contiguous(at::MemoryFormat::ChannelsLast)
                             .requires_grad_();
  return {"convolution",
          config,
          str(images, "x", side, "x", side, "x", in, " to ", out,
              frames > 1 ? ", clips of " + std::to_string(frames) : ""),
          {x, filters, bias},
          [=](const KernelChoice& kernels) {
            return convolution(kernels, x.permute({0, 3, 1, 2}), filters, bias, frames);
          }};
}

Case long_attention_case(const char* config, int64_t images, int64_t tokens, int64_t heads,
                         int64_t width) {
  const Tensor qkv = weight({3, images, heads, tokens, width});
  return {"long_attention",
          config,
          str(images, "x", tokens, ", ", heads, " heads of ", width),
          {qkv},
          [=](const KernelChoice& kernels) { return attend(kernels, qkv[0], qkv[1], qkv[2], {}); }};
}

Case token_layer_case(const char* config, int64_t sequences, int64_t width, int64_t heads,
                      int64_t places) {
  const auto matrix = [](int64_t out, int64_t in) { return at::randn({out, in}) * 0.05; };
  const auto vector = [](int64_t size) { return at::randn({size}); };
  const TokenLayerWeights w{vector(width),
                            vector(width),
                            matrix(3 * width, width),
                            vector(3 * width),
                            matrix(width, width),
                            vector(width),
                            vector(width),
                            vector(width),
                            matrix(4 * width, width),
                            vector(4 * width),
                            matrix(width, 4 * width),
                            vector(width),
                            heads,
                            1e-5};
  const Tensor x = at::randn({sequences, 1, width});
  const Tensor keys = at::randn({sequences, heads, places, width / heads}),
               values = at::randn(keys.sizes());
  return {"token_layer",
          config,
          str(sequences, "x", width, ", ", places / 2, " tokens settled"),
          {},
          [=](const KernelChoice& kernels) {
            const TokenCache cache{keys, values, places / 2};
            return token_layer(kernels, x, w, {}, &cache);
          }};
}

// Made when they are measured, one at a time.
const std::vector<std::function<Case()>>& cases() {
  static const std::vector<std::function<Case()>> all = {
      [] {
        return attention_case("cifar10/cvivit, space", {32, 64, 1}, 256, 8, 32, true);
      },
      [] {
        return attention_case("cifar10/cvivit, time", {4, 8, 64}, 256, 8, 32, true);
      },
      [] {
        return attention_case("ffhq128/cvivit, time", {1, 8, 1024}, 512, 8, 64, true);
      },
      [] {
        return attention_case("peers/cvivit-phenaki, space", {20, 16, 1}, 128, 4, 32, true);
      },
      [] {
        return attention_case("moving-mnist/unet3d, time", {2, 10, 4096}, 64, 8, 32, false);
      },
      [] {
        return attention_case("peers/unet3d, time", {4, 8, 1024}, 32, 8, 32, false);
      },
      [] { return feed_forward_case("cifar10/cvivit", 4 * 8 * 64, 256); },
      [] { return feed_forward_case("ffhq128/cvivit", 8 * 1024, 512); },
      [] { return feed_forward_case("peers/cvivit-phenaki", 4 * 5 * 16, 128); },
      [] {
        return depthwise_case("cifar10/cvivit", {4, 8, 8, 8, 256});
      },
      [] {
        return depthwise_case("ffhq128/cvivit", {1, 8, 32, 32, 512});
      },
      [] { return nearest_code_case("cifar10/cvivit", 4 * 8 * 64, 32, 1024); },
      [] { return nearest_code_case("ffhq128/cvivit", 8 * 1024, 32, 8192); },
      [] { return nearest_code_case("peers/cvivit-phenaki", 4 * 5 * 16, 128, 512); },
      [] { return norm_case("cifar10/ddpm", 16, 32, 128, 32); },
      [] { return norm_case("celeba64/vqvae", 8, 64, 64, 16); },
      [] { return norm_case("moving-mnist/unet3d", 20, 64, 64, 0); },
      [] { return norm_case("peers/fdm", 16, 32, 32, 8); },
      [] { return linear_attention_case("moving-mnist/unet3d", 20, 64, 64); },
      [] { return linear_attention_case("peers/unet3d", 32, 32, 32); },
      [] { return skinny_case("cifar10/prior, sampling", 32, 384, 1536, false); },
      [] { return skinny_case("cifar10/iddpm, levels", 32, 512, 1024, true); },
      [] { return skinny_case("peers/unet3d, levels", 32, 128, 256, true); },
      [] { return convolution_case("cifar10/ddpm", 16, 32, 128, 128); },
      [] { return convolution_case("cifar10/ddpm, 8x8", 16, 8, 256, 256); },
      [] { return convolution_case("celeba64/vqvae", 8, 64, 64, 64); },
      [] { return convolution_case("peers/ramvid", 16, 32, 32, 32, 8); },
      [] { return convolution_case("moving-mnist/rvd", 8, 64, 48, 48); },
      [] { return long_attention_case("cifar10/iddpm", 16, 256, 4, 64); },
      [] { return long_attention_case("peers/fdm", 16, 256, 4, 16); },
      [] { return token_layer_case("cifar10/prior", 32, 384, 6, 513); },
      [] { return token_layer_case("celeba64/prior", 32, 512, 8, 513); },
  };
  return all;
}

void run(const Case& one, const KernelChoice& kernels) {
  if (one.inputs.empty()) {
    const at::NoGradGuard no_grad;
    (void)one.run(kernels);
    return;
  }
  const Tensor y = one.run(kernels);
  (void)torch::autograd::grad({y}, one.inputs, {at::ones_like(y)});
}

int64_t memory_of(const Case& one, const KernelChoice& kernels) {
  return peak_bytes_of([&] { run(one, kernels); });
}

struct Measured {
  double plain = 0, fused = 0;  // median seconds
  int64_t plain_bytes = 0, fused_bytes = 0;
};

// The forms in turn, so that a machine that slows down slows both.
Measured measure(const Case& one, double seconds) {
  constexpr int kFewest = 3;
  const KernelChoice plain{Form::kReference}, fused{Form::kFused};
  Measured out;
  run(one, plain);  // oneDNN's choices and memory
  run(one, fused);
  out.plain_bytes = memory_of(one, plain);
  out.fused_bytes = memory_of(one, fused);
  std::vector<double> times[2];
  const Clock::time_point begin = Clock::now();
  do {
    for (const bool is_fused : {false, true}) {
      const Clock::time_point start = Clock::now();
      run(one, is_fused ? fused : plain);
      times[is_fused].push_back(seconds_since(start));
    }
  } while (times[0].size() < kFewest || seconds_since(begin) < seconds);
  out.plain = median(times[0]);
  out.fused = median(times[1]);
  return out;
}

class Bf16Autocast {
 public:
  Bf16Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~Bf16Autocast() { at::autocast::set_autocast_enabled(at::kCPU, false); }
};

void print_row(const Case& one, const Measured& m) {
  constexpr double kMiB = 1 << 20;
  std::printf("| %s | %s | %s%s | %.2f | %.2f | %.2f | %.1f | %.1f |\n", one.operation, one.config,
              one.size.c_str(), one.inputs.empty() ? ", forward" : "", m.plain * 1e3, m.fused * 1e3,
              m.plain / m.fused, static_cast<double>(m.plain_bytes) / kMiB,
              static_cast<double>(m.fused_bytes) / kMiB);
  std::fflush(stdout);
}

int bench_kernels(const Arguments& arguments) {
  at::set_num_threads(static_cast<int>(arguments.integer("--threads")));
  const auto seconds = static_cast<double>(arguments.integer("--seconds"));
  const std::string only = arguments.get("--operation");
  const bool bf16 = arguments.precision() == BF16, as_json = arguments.has("--json");
  std::optional<Bf16Autocast> autocast;
  if (bf16) autocast.emplace();
  at::manual_seed(1);
  if (!as_json) {
    std::printf("%s, %d thread(s), %s\n\n", name_of(isa()), at::get_num_threads(),
                bf16 ? "bf16 autocast" : "single precision");
    std::printf(
        "| operation | config | size | plain ms | fused ms | plain / fused | plain MiB | "
        "fused MiB |\n|---|---|---|--:|--:|--:|--:|--:|\n");
  }
  Json json;
  bool found = false;
  json.object([&] {
    json.field("isa", name_of(isa())).field("threads", at::get_num_threads());
    json.field("precision", Precision_Name(arguments.precision()));
    json.array("rows", [&] {
      for (const auto& make : cases()) {
        const Case one = make();
        if (!only.empty() && only != one.operation) continue;
        found = true;
        const Measured m = measure(one, seconds);
        if (!as_json) print_row(one, m);
        json.object([&] {
          json.field("operation", one.operation).field("config", one.config);
          json.field("size", one.size).field("backward", !one.inputs.empty());
          json.field("plain_seconds", m.plain).field("fused_seconds", m.fused);
          json.field("plain_bytes", m.plain_bytes).field("fused_bytes", m.fused_bytes);
        });
      }
    });
  });
  if (!found) {
    fail(Code::kUsage, "no operation is called ", printable(only),
         "; `lastframe list kernels` names them");
  }
  if (as_json) print(json.text() + "\n");
  return 0;
}

constexpr Option kBenchKernelsOptions[] = {
    {"--operation", text("NAME"), "measure this operation alone (see `lastframe list kernels`)"},
    kThreadsOption,
    {"--seconds", integer(1, 3600), "how long to measure each size", {.fallback = "2"}},
    kPrecisionOption,
    kJsonOption,
};

}  // namespace

const Command kBenchKernelsCommand = {
    .name = "bench kernels",
    .summary = "measures each fused operation against its plain form",
    .details =
        "Runs every operation of `lastframe list kernels` forward and backward on the CPU at sizes "
        "of the configs, fused and as plain LibTorch operations in turn, and prints the medians "
        "and "
        "the most memory that each held: the table of src/kernels/README.md.",
    .example =
        "lastframe bench kernels --threads 2\n"
        "lastframe bench kernels --operation convolution --precision BF16 --json",
    .options = kBenchKernelsOptions,
    .run = bench_kernels,
};

}  // namespace lf
