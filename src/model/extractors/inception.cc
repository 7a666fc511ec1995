#include "model/extractors/inception.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>

#include <array>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "model/extractors/preprocessing.h"

namespace lf {
namespace {

constexpr int64_t kSide = 299;
constexpr int64_t kFidClasses = 1008, kTorchvisionClasses = 1000;
constexpr int64_t kSpatialChannels = 7;
constexpr int64_t kImagesAtOnce = 16;  // about 90 MB of the largest map
constexpr double kEpsilon = 1e-3;

using Chain = std::function<at::Tensor(const at::Tensor&)>;

struct Conv {
  at::Tensor operator()(const at::Tensor& x) const {
    return at::conv2d(x, weight, bias, stride, padding).relu_();
  }
  at::Tensor weight, bias;
  std::array<int64_t, 2> stride, padding;
};

at::Tensor max_pool(const at::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); }

// Builds the network's blocks from the weights.
class Builder {
 public:
  Builder(Weights& weights, at::ScalarType type, bool torchvision)
      : weights_(weights), type_(type), torchvision_(torchvision) {}

  Conv conv(const std::string& name, int64_t in, int64_t out, std::array<int64_t, 2> kernel,
            int64_t stride = 1, std::array<int64_t, 2> padding = {0, 0}) const {
    const FoldedConv folded =
        weights_.take_conv(name, {out, in, kernel[0], kernel[1]}, ".conv", ".bn", kEpsilon);
    return {folded.weight.to(type_).contiguous(at::MemoryFormat::ChannelsLast),
            folded.bias.to(type_),
            {stride, stride},
            padding};
  }

  // A chain of convolutions of stride 1 that keep the size, or of one stride 2 at the end.
  struct Link {
    std::string name;
    int64_t out;
    std::array<int64_t, 2> kernel;
    int64_t stride = 1;
  };
  Chain chain(const std::string& block, int64_t in, const std::vector<Link>& links) const {
    std::vector<Conv> convs;
    for (const Link& link : links) {
      const bool halves = link.stride == 2;
      convs.push_back(conv(block + link.name, in, link.out, link.kernel, link.stride,
                           {halves ? 0 : link.kernel[0] / 2, halves ? 0 : link.kernel[1] / 2}));
      in = link.out;
    }
    return [convs](const at::Tensor& x) {
      at::Tensor h = x;
      for (const Conv& conv : convs) h = conv(h);
      return h;
    };
  }

  // Average pooling, then a 1x1 convolution. Both are linear, so the convolution comes first: it
  // leaves a quarter of the channels to pool.
  Chain pooled(const std::string& block, int64_t in, int64_t out) const {
    const Conv project = conv(block + "branch_pool", in, out, {1, 1});
    // FID's network leaves padding out of the divisor, torchvision's counts it.
    return [project, counts_padding = torchvision_](const at::Tensor& x) {
      const at::Tensor h = at::conv2d(x, project.weight);
      return (at::avg_pool2d(h, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false, counts_padding) +
              project.bias.view({1, -1, 1, 1}))
          .relu_();
    };
  }

  // FID's Mixed_7c has max pooling here: probably a slip, but part of the definition.
  Chain max_pooled(const std::string& block, int64_t in, int64_t out) const {
    if (torchvision_) return pooled(block, in, out);
    const Conv project = conv(block + "branch_pool", in, out, {1, 1});
    return [project](const at::Tensor& x) {
      return project(at::max_pool2d(x, {3, 3}, {1, 1}, {1, 1}));
    };
  }

  Chain fork(const std::string& block, int64_t in, const std::string& name,
             const std::vector<Link>& links) const;

 private:
  Weights& weights_;
  at::ScalarType type_;
  bool torchvision_;
};

Chain side_by_side(std::vector<Chain> branches) {
  return [branches = std::move(branches)](const at::Tensor& x) {
    std::vector<at::Tensor> made;
    made.reserve(branches.size());
    for (const Chain& branch : branches) made.push_back(branch(x));
    return at::cat(made, 1);
  };
}

// A chain whose end is a 1x3 and a 3x1 convolution side by side.
Chain Builder::fork(const std::string& block, int64_t in, const std::string& name,
                    const std::vector<Link>& links) const {
  const Chain first = chain(block, in, links);
  const Chain ends = side_by_side({chain(block, links.back().out, {{name + "a", 384, {1, 3}}}),
                                   chain(block, links.back().out, {{name + "b", 384, {3, 1}}})});
  return [first, ends](const at::Tensor& x) { return ends(first(x)); };
}

Chain block_a(const Builder& make, const std::string& block, int64_t in, int64_t pool) {
  return side_by_side(
      {make.chain(block, in, {{"branch1x1", 64, {1, 1}}}),
       make.chain(block, in, {{"branch5x5_1", 48, {1, 1}}, {"branch5x5_2", 64, {5, 5}}}),
       make.chain(block, in,
                  {{"branch3x3dbl_1", 64, {1, 1}},
                   {"branch3x3dbl_2", 96, {3, 3}},
                   {"branch3x3dbl_3", 96, {3, 3}}}),
       make.pooled(block, in, pool)});
}

Chain block_b(const Builder& make, const std::string& block, int64_t in) {
  return side_by_side({make.chain(block, in, {{"branch3x3", 384, {3, 3}, 2}}),
                       make.chain(block, in,
                                  {{"branch3x3dbl_1", 64, {1, 1}},
                                   {"branch3x3dbl_2", 96, {3, 3}},
                                   {"branch3x3dbl_3", 96, {3, 3}, 2}}),
                       max_pool});
}

Chain block_c(const Builder& make, const std::string& block, int64_t mid) {
  constexpr int64_t kIn = 768;
  return side_by_side({make.chain(block, kIn, {{"branch1x1", 192, {1, 1}}}),
                       make.chain(block, kIn,
                                  {{"branch7x7_1", mid, {1, 1}},
                                   {"branch7x7_2", mid, {1, 7}},
                                   {"branch7x7_3", 192, {7, 1}}}),
                       make.chain(block, kIn,
                                  {{"branch7x7dbl_1", mid, {1, 1}},
                                   {"branch7x7dbl_2", mid, {7, 1}},
                                   {"branch7x7dbl_3", mid, {1, 7}},
                                   {"branch7x7dbl_4", mid, {7, 1}},
                                   {"branch7x7dbl_5", 192, {1, 7}}}),
                       make.pooled(block, kIn, 192)});
}

Chain block_d(const Builder& make, const std::string& block) {
  constexpr int64_t kIn = 768;
  return side_by_side(
      {make.chain(block, kIn, {{"branch3x3_1", 192, {1, 1}}, {"branch3x3_2", 320, {3, 3}, 2}}),
       make.chain(block, kIn,
                  {{"branch7x7x3_1", 192, {1, 1}},
                   {"branch7x7x3_2", 192, {1, 7}},
                   {"branch7x7x3_3", 192, {7, 1}},
                   {"branch7x7x3_4", 192, {3, 3}, 2}}),
       max_pool});
}

Chain block_e(const Builder& make, const std::string& block, int64_t in, Chain pool) {
  return side_by_side(
      {make.chain(block, in, {{"branch1x1", 320, {1, 1}}}),
       make.fork(block, in, "branch3x3_2", {{"branch3x3_1", 384, {1, 1}}}),
       make.fork(block, in, "branch3x3dbl_3",
                 {{"branch3x3dbl_1", 448, {1, 1}}, {"branch3x3dbl_2", 384, {3, 3}}}),
       std::move(pool)});
}

class Inception : public CheckedExtractor {
 public:
  Inception(Weights& weights, Preprocessing id, Precision precision)
      : CheckedExtractor(weights.hash(), kImagesAtOnce, weights.device()),
        id_(id),
        type_(precision == BF16 ? at::kBFloat16 : at::kFloat),
        device_(weights.device()),
        torchvision_(weights.extent("fc.weight", 0) == kTorchvisionClasses) {
    weights.ignore("AuxLogits.");  // for training only
    add_what_is_there(weights);
    weights.require_all_taken();
  }

  std::string name() const override { return torchvision_ ? "inception-torchvision" : "inception"; }
  std::vector<ExtractorLayer> layers() const override { return layers_; }
  int64_t frames() const override { return 1; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    std::set<std::string> missing;
    for (const std::string& layer : wanted) missing.insert(tap_of(layer));
    TensorsByName made;
    at::Tensor x = prepare_images(clips.select(1, 0).to(device_), id_, kSide).to(type_);
    for (const Step& step : steps_) {
      x = step.apply(x);
      if (missing.erase(step.layer) == 0) continue;
      made[step.layer] = step.layer == "spatial"
                             ? x.slice(1, 0, kSpatialChannels).permute({0, 2, 3, 1}).flatten(1)
                             : x.to(at::kFloat).mean({2, 3});
      if (missing.empty()) break;
    }
    std::vector<at::Tensor> out;
    for (const std::string& layer : wanted) {
      const at::Tensor& read = made.at(tap_of(layer));
      if (tap_of(layer) == layer) {
        out.push_back(read);
        continue;
      }
      const at::Tensor logits = read.matmul(classifier_.t());
      out.push_back(layer == "logits" ? logits + classifier_bias_ : logits);
    }
    return out;
  }

 private:
  struct Step {
    Chain apply;
    std::string layer;  // name of its output as a layer; "": none
  };

  // The layer from which a layer is computed: logits are a linear map of 2048.
  static std::string tap_of(const std::string& layer) {
    return layer.starts_with("logits") ? "2048" : layer;
  }

  void tap(const std::string& layer, int64_t dim) {
    steps_.back().layer = layer;
    layers_.push_back({layer, dim});
  }

  // A file may end after any of the usual feature layers.
  void add_what_is_there(Weights& weights) {
    const Builder make(weights, type_, torchvision_);
    add_stem(make);
    if (!weights.has_any("Conv2d_3b_1x1.")) return;
    add_second_stem(make);
    if (!weights.has_any("Mixed_5b.")) return;
    add_middle(make);
    if (!weights.has_any("Mixed_7a.")) return;
    add_end(make);
    if (weights.has("fc.weight")) add_classifier(weights);
  }

  void add_stem(const Builder& make) {
    steps_.push_back({make.conv("Conv2d_1a_3x3", 3, 32, {3, 3}, 2), ""});
    steps_.push_back({make.conv("Conv2d_2a_3x3", 32, 32, {3, 3}), ""});
    steps_.push_back({make.conv("Conv2d_2b_3x3", 32, 64, {3, 3}, 1, {1, 1}), ""});
    steps_.push_back({max_pool, ""});
    tap("64", 64);
  }

  void add_second_stem(const Builder& make) {
    steps_.push_back({make.conv("Conv2d_3b_1x1", 64, 80, {1, 1}), ""});
    steps_.push_back({make.conv("Conv2d_4a_3x3", 80, 192, {3, 3}), ""});
    steps_.push_back({max_pool, ""});
    tap("192", 192);
  }

  void add_middle(const Builder& make) {
    steps_.push_back({block_a(make, "Mixed_5b.", 192, 32), ""});
    steps_.push_back({block_a(make, "Mixed_5c.", 256, 64), ""});
    steps_.push_back({block_a(make, "Mixed_5d.", 288, 64), ""});
    steps_.push_back({block_b(make, "Mixed_6a.", 288), ""});
    steps_.push_back({block_c(make, "Mixed_6b.", 128), ""});
    steps_.push_back({block_c(make, "Mixed_6c.", 160), ""});
    steps_.push_back({block_c(make, "Mixed_6d.", 160), ""});
    tap("spatial", kSpatialChannels * 17 * 17);
    steps_.push_back({block_c(make, "Mixed_6e.", 192), ""});
    tap("768", 768);
  }

  void add_end(const Builder& make) {
    steps_.push_back({block_d(make, "Mixed_7a."), ""});
    steps_.push_back({block_e(make, "Mixed_7b.", 1280, make.pooled("Mixed_7b.", 1280, 192)), ""});
    steps_.push_back(
        {block_e(make, "Mixed_7c.", 2048, make.max_pooled("Mixed_7c.", 2048, 192)), ""});
    tap("2048", 2048);
  }

  void add_classifier(Weights& weights) {
    const int64_t classes = torchvision_ ? kTorchvisionClasses : kFidClasses;
    classifier_ = weights.take("fc.weight", {classes, 2048});
    classifier_bias_ = weights.take("fc.bias", {classes});
    layers_.push_back({"logits", classes});
    layers_.push_back({"logits_unbiased", classes});
  }

  Preprocessing id_;
  at::ScalarType type_;
  at::Device device_;
  bool torchvision_;
  std::vector<Step> steps_;
  std::vector<ExtractorLayer> layers_;
  at::Tensor classifier_, classifier_bias_;
};

}  // namespace

bool is_inception(const Weights& weights) { return weights.has_any("Conv2d_1a_3x3."); }

std::unique_ptr<Extractor> make_inception(Weights& weights, Preprocessing id, Precision precision) {
  return std::make_unique<Inception>(weights, id, precision);
}

}  // namespace lf
