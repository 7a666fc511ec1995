#include "model/extractors/lpips.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/extractors/preprocessing.h"

namespace lf {
namespace {

constexpr int64_t kPairsAtOnce = 16;

// One module of torchvision's `features`; ReLUs belong to the convolutions before them.
struct Module {
  enum Kind { kConv, kPool, kFire } kind;
  int64_t index = 0, in = 0, out = 0, kernel = 3, stride = 1, padding = 1;
  bool tapped = false;  // its output is compared
};

struct Trunk {
  const char* name;
  int64_t smallest;    // pixels of height and width
  bool pool_at_edges;  // ceil_mode of pooling
  std::vector<Module> modules;
};

Module conv(int64_t index, int64_t in, int64_t out, bool tapped = false, int64_t kernel = 3,
            int64_t stride = 1, int64_t padding = 1) {
  return {Module::kConv, index, in, out, kernel, stride, padding, tapped};
}
Module fire(int64_t index, int64_t in, int64_t squeezed, bool tapped = false) {
  return {Module::kFire, index, in, squeezed, 0, 0, 0, tapped};
}
Module pool(int64_t kernel) { return {Module::kPool, 0, 0, 0, kernel, 2, 0, false}; }

Trunk alex() {
  return {"alex",
          31,
          false,
          {conv(0, 3, 64, true, 11, 4, 2), pool(3), conv(3, 64, 192, true, 5, 1, 2), pool(3),
           conv(6, 192, 384, true), conv(8, 384, 256, true), conv(10, 256, 256, true)}};
}

Trunk vgg() {
  return {
      "vgg",
      16,
      false,
      {conv(0, 3, 64), conv(2, 64, 64, true), pool(2), conv(5, 64, 128), conv(7, 128, 128, true),
       pool(2), conv(10, 128, 256), conv(12, 256, 256), conv(14, 256, 256, true), pool(2),
       conv(17, 256, 512), conv(19, 512, 512), conv(21, 512, 512, true), pool(2),
       conv(24, 512, 512), conv(26, 512, 512), conv(28, 512, 512, true)}};
}

Trunk squeeze() {
  return {"squeeze",
          17,
          true,
          {conv(0, 3, 64, true, 3, 2, 0), pool(3), fire(3, 64, 16), fire(4, 128, 16, true), pool(3),
           fire(6, 128, 32), fire(7, 256, 32, true), pool(3), fire(9, 256, 48, true),
           fire(10, 384, 48, true), fire(11, 384, 64, true), fire(12, 512, 64, true)}};
}

// Told apart by their first convolutions.
Trunk trunk_of(const Weights& weights) {
  if (weights.extent("features.0.weight", 2) == 11) return alex();
  return weights.has_any("features.3.squeeze.") ? squeeze() : vgg();
}

using Chain = std::function<at::Tensor(const at::Tensor&)>;

Chain conv_of(Weights& weights, const std::string& name, const Module& module) {
  const at::Tensor weight =
      weights.take(name + ".weight", {module.out, module.in, module.kernel, module.kernel})
          .contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor bias = weights.take(name + ".bias", {module.out});
  return [weight, bias, stride = module.stride, padding = module.padding](const at::Tensor& x) {
    return at::conv2d(x, weight, bias, stride, padding).relu_();
  };
}

// SqueezeNet's fire module: squeeze, then expand by 1x1 and by 3x3.
Chain fire_of(Weights& weights, const std::string& name, const Module& module) {
  const int64_t few = module.out, many = 4 * few;
  const Chain in = conv_of(weights, name + ".squeeze", conv(0, module.in, few, false, 1, 1, 0)),
              one = conv_of(weights, name + ".expand1x1", conv(0, few, many, false, 1, 1, 0)),
              three = conv_of(weights, name + ".expand3x3", conv(0, few, many));
  return [=](const at::Tensor& x) {
    const at::Tensor h = in(x);
    return at::cat({one(h), three(h)}, 1);
  };
}

at::Tensor of_channels(const std::vector<float>& values, const Weights& weights) {
  return at::tensor(values, at::TensorOptions(weights.device()).dtype(at::kFloat))
      .view({1, -1, 1, 1});
}

class Lpips : public PairDistance {
 public:
  explicit Lpips(Weights& weights)
      : network_(lpips_maps(weights)), hash_(weights.hash()), device_(weights.device()) {}

  std::string name() const override { return network_.name; }
  std::string hash() const override { return hash_; }

  at::Tensor distance(const at::Tensor& a, const at::Tensor& b) const override {
    check(a, b);
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> parts = {at::zeros({0}, at::kFloat)};
    for (int64_t from = 0; from < a.size(0); from += kPairsAtOnce) {
      const auto maps_of = [&](const at::Tensor& images) {
        return network_.of(
            rgb_images(images.slice(0, from, from + kPairsAtOnce).to(device_)) / 127.5 - 1);
      };
      parts.push_back(feature_distance(network_, maps_of(a), maps_of(b)).to(at::kCPU));
    }
    return at::cat(parts);
  }

 private:
  void check(const at::Tensor& a, const at::Tensor& b) const {
    LF_CHECK(a.dim() == 4 && a.scalar_type() == at::kByte && b.scalar_type() == at::kByte,
             "images are bytes [N,H,W,C]");
    if (a.sizes() != b.sizes()) {
      fail(Code::kUsage, name(), " compares equally many images of one size; given are ",
           shape_text(a.sizes()), " and ", shape_text(b.sizes()));
    }
    if (a.size(3) != 1 && a.size(3) != 3) {
      fail(Code::kUsage, "the images have ", a.size(3), " channels, ", name(),
           " takes 1 or 3; convert them to grey or RGB");
    }
    if (std::min(a.size(1), a.size(2)) < network_.smallest) {
      fail(Code::kUsage, "the images have ", a.size(2), "x", a.size(1), " pixels, ", name(),
           " needs at least ", network_.smallest, "x", network_.smallest,
           "; use weights of another network");
    }
  }

  FeatureMaps network_;
  std::string hash_;
  at::Device device_;
};

}  // namespace

bool is_lpips(const Weights& weights) {
  return weights.has("features.0.weight") && weights.has("lin0.weight");
}

FeatureMaps lpips_maps(Weights& weights) {
  const Trunk trunk = trunk_of(weights);
  FeatureMaps maps;
  maps.name = str("lpips-", trunk.name);
  maps.smallest = trunk.smallest;
  std::vector<std::pair<Chain, bool>> steps;  // and whether the output is compared
  for (const Module& module : trunk.modules) {
    const std::string name = str("features.", module.index);
    const bool is_fire = module.kind == Module::kFire;
    Chain step;
    if (module.kind == Module::kPool) {
      step = [kernel = module.kernel, over = trunk.pool_at_edges](const at::Tensor& x) {
        return at::max_pool2d(x, kernel, 2, 0, 1, over);
      };
    } else {
      step = is_fire ? fire_of(weights, name, module) : conv_of(weights, name, module);
    }
    steps.emplace_back(std::move(step), module.tapped);
    if (!module.tapped) continue;
    const int64_t channels = is_fire ? 8 * module.out : module.out;
    maps.heads.push_back(
        weights.take(str("lin", maps.heads.size(), ".weight"), {1, channels, 1, 1}));
  }
  weights.require_all_taken();
  maps.of = [steps = std::move(steps), shift = of_channels({-.030F, -.088F, -.188F}, weights),
             scale = of_channels({.458F, .448F, .450F}, weights)](const at::Tensor& images) {
    std::vector<at::Tensor> tapped;
    at::Tensor x = (images - shift) / scale;
    for (const auto& [step, compared] : steps) {
      x = step(x);
      if (compared) tapped.push_back(x);
    }
    return tapped;
  };
  return maps;
}

std::unique_ptr<PairDistance> make_lpips(Weights& weights) {
  return std::make_unique<Lpips>(weights);
}

}  // namespace lf
