#include "model/extractors/i3d.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool3d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/max_pool3d.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "base/error.h"
#include "model/extractors/preprocessing.h"

namespace lf {
namespace {

constexpr int64_t kSide = 224, kClasses = 400;
// Three halvings, rounded up, must leave the two frames of the last pooling.
constexpr int64_t kFewestFrames = 9;
constexpr int64_t kFramesAtOnce = 32;
constexpr double kEpsilon = 1e-5;

using Size = std::array<int64_t, 3>;  // time, height, width
using Chain = std::function<at::Tensor(const at::Tensor&)>;

// TensorFlow's "SAME" padding with zeros: the output has ceil(size / stride) positions; an odd zero
// comes at the end.
at::Tensor pad_same(const at::Tensor& x, const Size& kernel, const Size& stride) {
  std::vector<int64_t> pads;
  for (size_t axis = 3; axis-- > 0;) {  // the last axis comes first
    const int64_t size = x.size(static_cast<int64_t>(axis) + 2);
    const int64_t outputs = (size + stride[axis] - 1) / stride[axis];
    const int64_t pad = std::max<int64_t>(0, (outputs - 1) * stride[axis] + kernel[axis] - size);
    pads.push_back(pad / 2);
    pads.push_back(pad - pad / 2);
  }
  const bool none = std::all_of(pads.begin(), pads.end(), [](int64_t pad) { return pad == 0; });
  return none ? x : at::constant_pad_nd(x, pads);
}

// Maps are never negative, so padding with zeros equals padding with minus infinity.
Chain max_pool(const Size& kernel, const Size& stride) {
  return [=](const at::Tensor& x) {
    return at::max_pool3d(pad_same(x, kernel, stride), kernel, stride);
  };
}

class Builder {
 public:
  Builder(Weights& weights, double epsilon) : weights_(weights), epsilon_(epsilon) {}

  Chain conv(const std::string& name, int64_t in, int64_t out, int64_t kernel,
             int64_t stride = 1) const {
    const FoldedConv folded =
        weights_.take_conv(name, {out, in, kernel, kernel, kernel}, ".conv3d", ".bn", epsilon_);
    const at::Tensor weight = folded.weight.contiguous(at::MemoryFormat::ChannelsLast3d);
    return [weight, bias = folded.bias, kernel, stride](const at::Tensor& x) {
      const at::Tensor padded = pad_same(x, {kernel, kernel, kernel}, {stride, stride, stride});
      return at::conv3d(padded, weight, bias, {stride, stride, stride}).relu_();
    };
  }

  // Channels of the four branches: plain; reduced, out; reduced, out; pooled.
  Chain mixed(const std::string& name, int64_t in, const std::array<int64_t, 6>& out) const {
    const Chain plain = conv(name + ".b0", in, out[0], 1);
    const Chain middle_in = conv(name + ".b1a", in, out[1], 1),
                middle = conv(name + ".b1b", out[1], out[2], 3);
    const Chain small_in = conv(name + ".b2a", in, out[3], 1),
                small = conv(name + ".b2b", out[3], out[4], 3);
    const Chain pool = max_pool({3, 3, 3}, {1, 1, 1}), pooled = conv(name + ".b3b", in, out[5], 1);
    return [=](const at::Tensor& x) {
      return at::cat({plain(x), middle(middle_in(x)), small(small_in(x)), pooled(pool(x))}, 1);
    };
  }

 private:
  Weights& weights_;
  double epsilon_;
};

double epsilon_of(const Weights& weights) {
  const std::string text = weights.metadata("batch_norm_epsilon");
  double epsilon = kEpsilon;
  if (!text.empty() && (!parse(text, &epsilon) || !(epsilon > 0 && epsilon < 1))) {
    fail(Code::kCheckpoint, printable(weights.file()), ": batch_norm_epsilon is '", printable(text),
         "', expected a number in (0, 1); convert the weights again");
  }
  return epsilon;
}

class I3d : public CheckedExtractor {
 public:
  explicit I3d(Weights& weights)
      : CheckedExtractor(weights.hash(), kFramesAtOnce, weights.device()),
        device_(weights.device()) {
    const Builder make(weights, epsilon_of(weights));
    steps_ = {make.conv("Conv3d_1a_7x7", 3, 64, 7, 2),
              max_pool({1, 3, 3}, {1, 2, 2}),
              make.conv("Conv3d_2b_1x1", 64, 64, 1),
              make.conv("Conv3d_2c_3x3", 64, 192, 3),
              max_pool({1, 3, 3}, {1, 2, 2}),
              make.mixed("Mixed_3b", 192, {64, 96, 128, 16, 32, 32}),
              make.mixed("Mixed_3c", 256, {128, 128, 192, 32, 96, 64}),
              max_pool({3, 3, 3}, {2, 2, 2}),
              make.mixed("Mixed_4b", 480, {192, 96, 208, 16, 48, 64}),
              make.mixed("Mixed_4c", 512, {160, 112, 224, 24, 64, 64}),
              make.mixed("Mixed_4d", 512, {128, 128, 256, 24, 64, 64}),
              make.mixed("Mixed_4e", 512, {112, 144, 288, 32, 64, 64}),
              make.mixed("Mixed_4f", 528, {256, 160, 320, 32, 128, 128}),
              max_pool({2, 2, 2}, {2, 2, 2}),
              make.mixed("Mixed_5b", 832, {256, 160, 320, 32, 128, 128}),
              make.mixed("Mixed_5c", 832, {384, 192, 384, 48, 128, 128})};
    classifier_ = weights.take("logits.conv3d.weight", {kClasses, 1024, 1, 1, 1}).flatten(1);
    classifier_bias_ = weights.take("logits.conv3d.bias", {kClasses});
    weights.require_all_taken();
  }

  std::string name() const override { return "i3d"; }
  std::vector<ExtractorLayer> layers() const override { return {{"logits", kClasses}}; }
  int64_t frames() const override { return kFewestFrames; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    const at::Tensor frames = clips.flatten(0, 1).to(device_);
    at::Tensor x = prepare_images(frames, Preprocessing::kTorch, kSide)
                       .unflatten(0, {clips.size(0), clips.size(1)})
                       .transpose(1, 2)
                       .contiguous(at::MemoryFormat::ChannelsLast3d);
    for (const Chain& step : steps_) x = step(x);
    // Logits are linear in the pooled maps, so their mean over time is that of the mean map.
    const at::Tensor pooled = at::avg_pool3d(x, {2, 7, 7}, {1, 1, 1}).mean({2, 3, 4});
    const at::Tensor logits = pooled.matmul(classifier_.t()) + classifier_bias_;
    return std::vector<at::Tensor>(wanted.size(), logits);
  }

 private:
  at::Device device_;
  std::vector<Chain> steps_;
  at::Tensor classifier_, classifier_bias_;
};

}  // namespace

bool is_i3d(const Weights& weights) { return weights.has_any("Conv3d_1a_7x7."); }

std::unique_ptr<Extractor> make_i3d(Weights& weights) { return std::make_unique<I3d>(weights); }

}  // namespace lf
