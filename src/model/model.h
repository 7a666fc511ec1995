// What the trainer, the sampler and the evaluation know of a model: its named tensors, its phases,
// its loss on a batch of clips and a preview of what it makes. Models know nothing of ranks, stores
// or optimisers. make_model() (model.cc) maps the config to one; adding a model is a new .cc, a
// message in the config's oneof and a case there.
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

// A batch on the model's device. Pixels are [-1, 1]; element i is clip `first_position + i` of the
// run's order, which keys everything random about it.
struct Clips {
  at::Tensor x_BTHWC;
  at::Tensor labels_B;  // int64, -1 where there is none
  uint64_t seed = 0;
  int64_t first_position = 0;
  at::Tensor images_BNHWC = {};        // independent images beside each clip; undefined: none
  std::vector<NamedTensor> side = {};  // columns of numbers that come with the clips, [B, width]
  // The least and the largest label where they are known without asking the device.
  std::optional<std::array<int64_t, 2>> label_range = {};
  Refills* refills = nullptr;  // while a step is recorded with them (refills.h)

  int64_t size() const { return x_BTHWC.size(0); }
  Clips slice(int64_t from, int64_t to) const;
};

// The least and the largest label of a batch that is not empty.
std::array<int64_t, 2> label_range(const Clips& clips);

// The frames as a batch of images [B*T, C, H, W] in channels-last memory: a view, no copy.
at::Tensor frames_as_images(const at::Tensor& x_BTHWC);
at::Tensor images_as_frames(const at::Tensor& images, int64_t frames);

struct Loss {
  at::Tensor total;                // what backward starts from: the mean over the batch
  std::vector<NamedTensor> terms;  // detached scalars for the log
};

// One group of weights with an optimiser of its own. In a phase's turn the other groups stand
// still.
struct Phase {
  std::string name;  // "generator", "discriminator"
  std::vector<NamedTensor> weights;
};

// How different two images [H, W, C] look.
using ImageDistance = std::function<double(const at::Tensor& a_HWC, const at::Tensor& b_HWC)>;

// Clips to make from nothing. Clip i of the request is keyed by `seed` and `first + i`, so that any
// number of ranks, each taking its share, makes the same clips.
struct SampleRequest {
  uint64_t seed = 0;
  int64_t first = 0, count = 1;
  at::Tensor labels_B;      // int64 classes to make; undefined: the model draws them, or has none
  at::Tensor given_BTHWC;   // frames of each clip, which are kept; undefined: none
  int64_t frames = 0;       // of a clip; 0: as many as the model was trained on
  at::Tensor text_BE = {};  // what to show, for a model that reads text embeddings
  // The given frames' numbers in the video, rising; empty: those that the model was trained to be
  // given, else the first ones.
  std::vector<int64_t> given_frames = {};
  at::Tensor small_BTHWC =
      {};  // the clips at the size that a model of super-resolution starts from
  ImageDistance distance = {};  // for adaptive schemes; none: the mean square
};

// Adds a tensor up over all ranks, in place. Codebooks and adaptive loss weights need it; a model
// knows no other way to hear of ranks. Called by every rank in the same order.
using SumOverRanks = std::function<void(at::Tensor&)>;

class Model {
 public:
  virtual ~Model() = default;
  virtual const ParameterTable& parameters() const = 0;
  virtual std::vector<Phase> phases() const = 0;
  // The loss of `phase` (an index into phases()) in training, or without dropout if not `training`.
  virtual Loss loss(const Clips& clips, size_t phase, bool training) = 0;
  // Independent images (Clips::images_BNHWC) that training wants beside each clip.
  virtual int64_t images_per_clip() const { return 0; }
  // Why a training step of it cannot be recorded once and replayed on a GPU, a clause after
  // "because"; "" if it can. Then what the loss computes is the same in each step but for the
  // clips, keyed numbers and chosen_on_host(), and after its first step neither it nor
  // after_update() waits for the device.
  virtual std::string unrecordable() const {
    return "this model decides in each step what to compute";
  }
  // Called by all ranks after each step of `images` clips, for state that is not moved by
  // gradients, such as codebooks. Where `moved`, a number on the device, is 0, the step was skipped
  // on all ranks: some phase's weights did not move, and such state must not either.
  virtual void after_update(int64_t /*images*/, const at::Tensor& /*moved*/) {}
  // What the model makes of these clips, [-1, 1] and of their shape: a reconstruction, or samples.
  virtual at::Tensor preview(const Clips& clips) = 0;
  // The clips after encoding and decoding, or made from the part of them that the model is given,
  // [-1, 1] and of their shape. Code::kUsage from a model that has no such thing.
  virtual at::Tensor reconstruct(const Clips& clips);
  // The frames of a clip that it is given in reconstruct() and that come back as they are.
  virtual std::vector<int64_t> frames_to_give() const { return {}; }
  // New clips, [count, T, H, W, C] in [-1, 1]; long ones in host memory. Code::kUsage from a model
  // that cannot make any.
  virtual at::Tensor sample(const SampleRequest& request);
};

// Random numbers keyed by each clip's position, equal on every world size. `layer` tells calls
// within one loss apart; `shape` is of one element.
at::Tensor keyed_uniform(const Clips& clips, Purpose purpose, uint32_t layer,
                         at::IntArrayRef shape);
at::Tensor keyed_normal(const Clips& clips, Purpose purpose, uint32_t layer, at::IntArrayRef shape);

// What the host decides by clips' keys alone: tensors in host memory, of the same shapes in each
// step.
using HostChoice = std::function<std::vector<at::Tensor>(const Clips& keys)>;
// The same on the clips' device, by one transfer. `make` may be kept and called again, for each
// replay of a recorded step.
std::vector<at::Tensor> chosen_on_host(const Clips& clips, const HostChoice& make);

// What `lastframe export` wrote of another model, or the weights of a network that others trained,
// which have no config: models do not read files themselves.
struct ExportedModel {
  Config config;  // chooses no model where there is none
  std::vector<NamedTensor> tensors;
};
using OpenExport = std::function<ExportedModel(const std::string& file)>;

// What makes a model for a run: make_model(), or in tests a model of their own.
using ModelMaker = std::function<std::unique_ptr<Model>(const Config&, const ClipShape&, at::Device,
                                                        const SumOverRanks&, const OpenExport&)>;

// The same for a model that is used, not trained: without the file of its perceptual loss.
Config without_judge(Config config);

// Code::kUsage if the config chooses no model, or one that cannot take clips of this shape. Without
// `sum` the model is this process's alone; one that is built on another needs `open`.
std::unique_ptr<Model> make_model(const Config& config, const ClipShape& shape, at::Device device,
                                  const SumOverRanks& sum = {}, const OpenExport& open = {});

}  // namespace lf
