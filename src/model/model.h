// The interface of models: named tensors, phases, the loss on a batch of clips, and samples or
// reconstructions. Models know nothing of ranks, stores or optimisers. To add one, write a new .cc,
// a message in the config's oneof and a case in make_model() (model.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clip_shape.h"
#include "base/random.h"
#include "model/parameters.h"
#include "run.pb.h"

namespace lf {

class Refills;

// A batch on the model's device. Pixels are in [-1, 1]. Element i is clip `first_position + i` in
// the run's order; seed and position key everything random about it.
struct Clips {
  at::Tensor x_BTHWC;
  at::Tensor labels_B;  // int64, -1 for none
  uint64_t seed = 0;
  int64_t first_position = 0;
  at::Tensor images_BNHWC = {};        // independent images beside each clip; undefined: none
  std::vector<NamedTensor> side = {};  // side columns of the store, [B, width]
  // Least and largest label, if known without a copy from the device.
  std::optional<std::array<int64_t, 2>> label_range = {};
  // Position of the first clip of the global batch; -1: a multiple of its size.
  int64_t batch_position = -1;
  Refills* refills = nullptr;  // set while a step is recorded (refills.h)

  int64_t size() const { return x_BTHWC.size(0); }
  Clips slice(int64_t from, int64_t to) const;
};

// Least and largest label of a batch that is not empty.
std::array<int64_t, 2> label_range(const Clips& clips);

// The frames as a batch of images [B*T, C, H, W] in channels-last memory: a view, no copy.
at::Tensor frames_as_images(const at::Tensor& x_BTHWC);
at::Tensor images_as_frames(const at::Tensor& images, int64_t frames);

struct Loss {
  at::Tensor total;                // the mean over the batch, which backward starts from
  std::vector<NamedTensor> terms;  // detached scalars for the log
};

// A group of weights with its own optimiser; a step of one phase leaves the weights of the others
// unchanged.
struct Phase {
  std::string name;  // "generator", "discriminator"
  std::vector<NamedTensor> weights;
};

// A distance between two images [H, W, C], such as LPIPS.
using ImageDistance = std::function<double(const at::Tensor& a_HWC, const at::Tensor& b_HWC)>;

// Clips to sample. Clip i of the request is keyed by `seed` and `first + i`, so that any number of
// ranks, each sampling its share, gives the same clips.
struct SampleRequest {
  uint64_t seed = 0;
  int64_t first = 0, count = 1;
  at::Tensor labels_B;     // int64 classes; undefined: drawn by the model, if it has classes
  at::Tensor given_BTHWC;  // observed frames of each clip, returned as they are; undefined: none
  int64_t frames = 0;      // of a clip; 0: as many as the model was trained on
  // Text embeddings, a row for each clip: [B, E], or of tokens [B, L, E] or [B, L E].
  at::Tensor text = {};
  // Indices of the given frames in the video, rising; empty: those that the model was trained with,
  // else the first ones.
  std::vector<int64_t> given_frames = {};
  at::Tensor small_BTHWC = {};  // the low-resolution clips of super-resolution
  ImageDistance distance = {};  // of adaptive schemes; empty: the mean squared error
};

// All-reduce (sum) of a tensor, in place, for codebooks and adaptive loss weights. Every rank calls
// it in the same order. Empty: there is one rank.
using SumOverRanks = std::function<void(at::Tensor&)>;

class Model {
 public:
  virtual ~Model() = default;
  virtual const ParameterTable& parameters() const = 0;
  virtual std::vector<Phase> phases() const = 0;
  // The loss of `phase`, an index into phases(); without dropout unless `training`.
  virtual Loss loss(const Clips& clips, size_t phase, bool training) = 0;
  // Independent images (Clips::images_BNHWC) beside each clip in training.
  virtual int64_t images_per_clip() const { return 0; }
  // Why a training step cannot be recorded once and replayed on a GPU, as a clause after "because";
  // "" if it can. Then the loss computes the same in each step except for the clips, keyed draws
  // and chosen_on_host(), and after the first step neither loss() nor after_update() waits for the
  // device.
  virtual std::string unrecordable() const {
    return "this model decides in each step what to compute";
  }
  // Collective. Updates state that has no gradient, such as codebooks, after each step of `images`
  // clips. `moved` is a scalar on the device; 0 if the step was skipped on all ranks, and then the
  // state must not change either.
  virtual void after_update(int64_t /*images*/, const at::Tensor& /*moved*/) {}
  // A reconstruction of these clips or samples, in [-1, 1] and of their shape.
  virtual at::Tensor preview(const Clips& clips) = 0;
  // The clips after encoding and decoding, or sampled given some of their frames; in [-1, 1] and of
  // their shape. Throws Code::kUsage if the model can do neither.
  virtual at::Tensor reconstruct(const Clips& clips);
  // The observed frames of reconstruct(), which it returns as they are.
  virtual std::vector<int64_t> frames_to_give() const { return {}; }
  // New clips, [count, T, H, W, C] in [-1, 1]; long ones in host memory. Throws Code::kUsage if the
  // model cannot sample.
  virtual at::Tensor sample(const SampleRequest& request);
};

// Random values keyed by each clip's position, the same for any number of ranks. `layer`
// distinguishes calls within one loss; `shape` is that of one clip's values.
at::Tensor keyed_uniform(const Clips& clips, Purpose purpose, uint32_t layer,
                         at::IntArrayRef shape);
at::Tensor keyed_normal(const Clips& clips, Purpose purpose, uint32_t layer, at::IntArrayRef shape);

// Chooses by clips' keys only; returns tensors in host memory, of the same shapes in each step.
using HostChoice = std::function<std::vector<at::Tensor>(const Clips& keys)>;
// make(clips), copied to the clips' device in one transfer. `make` may be kept and called again for
// each replay of a recorded step.
std::vector<at::Tensor> chosen_on_host(const Clips& clips, const HostChoice& make);

// A file written by `lastframe export`, or the weights of a foreign network, which have no config.
// Models do not read files themselves.
struct ExportedModel {
  Config config;  // without a model for a foreign network
  std::vector<NamedTensor> tensors;
};
using OpenExport = std::function<ExportedModel(const std::string& file)>;

// make_model(), or a substitute in tests.
using ModelMaker = std::function<std::unique_ptr<Model>(const Config&, const ClipShape&, at::Device,
                                                        const SumOverRanks&, const OpenExport&)>;

// The config without the file of a perceptual loss, for a model that is used, not trained.
Config without_perceptual_loss(Config config);

// Throws Code::kUsage if the config chooses no model, or one that cannot take clips of this shape.
// An empty `sum` means one rank; a model built on another's export needs `open`.
std::unique_ptr<Model> make_model(const Config& config, const ClipShape& shape, at::Device device,
                                  const SumOverRanks& sum = {}, const OpenExport& open = {});

}  // namespace lf
