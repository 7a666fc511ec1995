#include "model/classifier.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/where.h>

#include <optional>

#include "base/error.h"
#include "model/layers.h"

namespace lf {
namespace {

constexpr const char* kRoot = "classifier";
constexpr int64_t kFramesAtOnce = 256;

// Two convolutions with a skip connection; for clips then h + temporal convolution(h), initially
// the identity.
struct Stage {
  Stage(const Scope& scope, int64_t in, int64_t out, int64_t stride, bool clips)
      : first(scope / "first", in, out, 3, stride),
        first_norm(scope / "first_norm", out),
        second(scope / "second", out, out, 3),
        second_norm(scope / "second_norm", out),
        around(scope / "around", in, out, 1, stride) {
    if (clips) temporal.emplace(scope / "temporal", out, Init::kZeros);
  }
  at::Tensor operator()(const at::Tensor& x, int64_t frames) const {
    const at::Tensor h = second_norm(second(at::relu(first_norm(first(x)))));
    const at::Tensor out = at::relu(h + around(x));
    return temporal ? out + (*temporal)(out, frames) : out;
  }
  Conv2d first;
  GroupNorm first_norm;
  Conv2d second;
  GroupNorm second_norm;
  Conv2d around;
  std::optional<TemporalConv> temporal;
};

struct Shape {
  int64_t channels, width, stages, classes;
  bool clips;
};

struct Network {
  Network(const Scope& scope, const Shape& shape)
      : stem(scope / "stem", shape.channels, shape.width, 3),
        stem_norm(scope / "stem_norm", shape.width) {
    int64_t in = shape.width;
    for (int64_t i = 0; i < shape.stages; ++i) {
      const int64_t out = shape.width << i;
      stages.emplace_back(scope / str("stage", i), in, out, i == 0 ? 1 : 2, shape.clips);
      in = out;
    }
    head = (scope / "head").weight("weight", {shape.classes, in}, Init::kFanIn);
    head_bias = (scope / "head").weight("bias", {shape.classes}, Init::kZeros);
  }
  // [B * T, C, H, W] in [-1, 1] -> [B * T, channels, h, w] after every stage.
  std::vector<at::Tensor> maps(const at::Tensor& images, int64_t frames) const {
    std::vector<at::Tensor> maps;
    at::Tensor h = at::relu(stem_norm(stem(images)));
    for (const Stage& stage : stages) maps.push_back(h = stage(h, frames));
    return maps;
  }
  // [B, T, H, W, C] in [-1, 1] -> [B, channels]: the mean over pixels and frames.
  at::Tensor features(const at::Tensor& x_BTHWC) const {
    const int64_t frames = x_BTHWC.size(1);
    const at::Tensor h = maps(frames_as_images(x_BTHWC), frames).back();
    return h.to(at::kFloat).mean({2, 3}).unflatten(0, {-1, frames}).mean(1);
  }
  at::Tensor logits(const at::Tensor& features) const {
    return at::linear(features, head, head_bias);
  }
  Conv2d stem;
  GroupNorm stem_norm;
  std::vector<Stage> stages;
  at::Tensor head, head_bias;
};

class Classifier : public Model {
 public:
  Classifier(const ClassifierConfig& config, const ClipShape& shape, const TrainConfig& train,
             at::Device device)
      : config_(config),
        table_(train, device),
        network_(Scope(table_, kRoot), {shape.channels, config.width(), config.stages(),
                                        config.classes(), shape.frames > 1}) {
    const int smallest = 1 << (config.stages() - 1);
    if (shape.height < smallest || shape.width < smallest) {
      fail(Code::kUsage, "model.classifier.stages is ", config.stages(), ", which needs ", smallest,
           " pixels of height and width; clips are ", shape.height, "x", shape.width);
    }
    if (config.shift() >= std::min(shape.height, shape.width)) {
      fail(Code::kUsage, "model.classifier.shift is ", config.shift(), ", expected less than the ",
           shape.height, "x", shape.width, " pixels of a clip");
    }
  }

  const ParameterTable& parameters() const override { return table_; }
  std::vector<Phase> phases() const override { return {{"classifier", table_.weights()}}; }

  Loss loss(const Clips& clips, size_t /*phase*/, bool training) override {
    check_labels(clips);
    const bool crops = training && config_.shift() > 0;
    at::Tensor features = network_.features(crops ? cropped(clips) : clips.x_BTHWC);
    if (training && config_.dropout() > 0) {
      const at::Tensor draw = keyed_uniform(clips, Purpose::kDropout, 0, {features.size(1)});
      features = features * (draw >= config_.dropout()) / (1 - config_.dropout());
    }
    const at::Tensor logits = network_.logits(features).to(at::kFloat);
    const at::Tensor total = at::cross_entropy_loss(logits, clips.labels_B, {}, at::Reduction::Mean,
                                                    -100, training ? config_.label_smoothing() : 0);
    const at::Tensor accuracy = (logits.detach().argmax(1) == clips.labels_B).to(at::kFloat).mean();
    return {total, {{"cross_entropy", total.detach()}, {"accuracy", accuracy}}};
  }

  std::string unrecordable() const override {
    return "a classifier crops every clip at its own offset";
  }

  // The clips, misclassified ones darkened.
  at::Tensor preview(const Clips& clips) override {
    const at::Tensor guess = network_.logits(network_.features(clips.x_BTHWC)).argmax(1);
    const at::Tensor right = (guess == clips.labels_B).view({-1, 1, 1, 1, 1});
    return at::where(right, clips.x_BTHWC, (clips.x_BTHWC - 1) / 2);
  }

 private:
  void check_labels(const Clips& clips) const {
    const auto [low, high] = label_range(clips);
    if (low < 0) {
      fail(Code::kUsage, "a clip near position ", clips.first_position,
           " has no label, a classifier needs one for every clip; build the store from a labelled "
           "source (class folders, CIFAR, IDX labels)");
    }
    if (high >= config_.classes()) {
      fail(Code::kUsage, "a clip near position ", clips.first_position, " has the label ", high,
           ", model.classifier.classes is ", config_.classes(),
           "; set it to one more than the "
           "largest label");
    }
  }

  // Random crops of the clips padded with zeros, one keyed offset a clip.
  at::Tensor cropped(const Clips& clips) const {
    const int64_t most = config_.shift();
    const int64_t height = clips.x_BTHWC.size(2), width = clips.x_BTHWC.size(3);
    // The second stream of the purpose; the first drops features.
    const at::Tensor draw = keyed_uniform(clips, Purpose::kDropout, 1, {2}).to(at::kCPU);
    const at::Tensor offsets = (draw * static_cast<double>(2 * most + 1)).to(at::kLong);
    const auto offset = offsets.accessor<int64_t, 2>();
    const at::Tensor padded = at::constant_pad_nd(clips.x_BTHWC, {0, 0, most, most, most, most}, 0);
    std::vector<at::Tensor> cut;
    for (int64_t i = 0; i < clips.size(); ++i) {
      cut.push_back(
          padded.slice(0, i, i + 1).narrow(2, offset[i][0], height).narrow(3, offset[i][1], width));
    }
    return at::cat(cut);
  }

  ClassifierConfig config_;
  ParameterTable table_;
  Network network_;
};

// A classifier rebuilt from its exported tensors alone.
struct Exported {
  Shape shape;
  ParameterTable table;
  Network network;

  Exported(Weights& weights, const KernelChoice& kernels)
      : shape(shape_of(weights)),
        table(0, weights.device(), kernels),
        network(Scope(table, kRoot), shape) {
    for (const NamedTensor& weight : table.weights()) {
      weight.tensor.detach().copy_(weights.take(weight.name, weight.tensor.sizes()));
      weight.tensor.set_requires_grad(false);
    }
    weights.require_all_taken();
  }

  static Shape shape_of(const Weights& weights) {
    const std::string root = str(kRoot, ".");
    Shape shape{weights.extent(root + "stem.weight", 1), weights.extent(root + "stem.weight", 0), 0,
                weights.extent(root + "head.weight", 0),
                weights.has_any(root + "stage0.temporal.")};
    while (weights.has_any(str(root, "stage", shape.stages, "."))) ++shape.stages;
    if (shape.channels < 1 || shape.width < 4 || shape.stages < 1 || shape.classes < 2) {
      fail(Code::kCheckpoint, printable(weights.file()),
           " is not a whole classifier; export it from its run again");
    }
    return shape;
  }
};

class OwnExtractor : public CheckedExtractor {
 public:
  OwnExtractor(Weights& weights, const KernelChoice& kernels)
      : CheckedExtractor(weights.hash(), kFramesAtOnce, weights.device()),
        exported_(weights, kernels),
        shape_(exported_.shape),
        network_(exported_.network) {}

  std::string name() const override { return "own"; }
  std::vector<ExtractorLayer> layers() const override {
    return {{"features", network_.head.size(1)}, {"logits", network_.head.size(0)}};
  }
  int64_t frames() const override { return shape_.clips ? 2 : 1; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    if (clips.size(4) != shape_.channels && clips.size(4) != 1) {
      fail(Code::kUsage, "the clips have ", clips.size(4),
           " channels, the classifier was trained on ", shape_.channels,
           "; set source.channels=", shape_.channels);
    }
    const at::Tensor x = clips.expand({-1, -1, -1, -1, shape_.channels})
                             .to(network_.head.device())
                             .to(at::kFloat)
                             .contiguous();
    const at::Tensor features = network_.features(x / 127.5 - 1);
    std::vector<at::Tensor> out;
    for (const std::string& layer : wanted) {
      out.push_back(layer == "logits" ? network_.logits(features) : features);
    }
    return out;
  }

 private:
  Exported exported_;
  const Shape& shape_;
  const Network& network_;
};

}  // namespace

std::unique_ptr<Model> make_classifier(const ClassifierConfig& config, const ClipShape& shape,
                                       const TrainConfig& train, at::Device device) {
  return std::make_unique<Classifier>(config, shape, train, device);
}

bool is_classifier(const Weights& weights) { return weights.has_any(str(kRoot, ".stem.")); }

std::unique_ptr<Extractor> make_own_extractor(Weights& weights, const KernelChoice& kernels) {
  return std::make_unique<OwnExtractor>(weights, kernels);
}

FeatureMaps classifier_maps(Weights& weights, const KernelChoice& kernels) {
  const auto exported = std::make_shared<Exported>(weights, kernels);
  if (exported->shape.clips) {
    fail(Code::kUsage, printable(weights.file()),
         " is a classifier of clips, and frames are to be compared one by one; give one that was "
         "trained on images (recipe.frames=1)");
  }
  FeatureMaps maps;
  maps.name = "own";
  maps.channels = exported->shape.channels;
  maps.smallest = int64_t{1} << (exported->shape.stages - 1);
  const auto depths = static_cast<size_t>(exported->shape.stages);
  maps.heads.assign(depths, at::full({1, 1, 1, 1}, 1.0 / static_cast<double>(depths),
                                     exported->network.head.options()));
  maps.of = [exported](const at::Tensor& images) { return exported->network.maps(images, 1); };
  return maps;
}

}  // namespace lf
