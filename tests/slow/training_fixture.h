// Small trainings for the tests that need a network that has learnt something, and the toy clips
// they learn: a 3x3 square on a torus of 8x8 that moves by one place a frame, to the left or to the
// right.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <functional>

#include "base/random.h"
#include "tests/model/denoisers/denoiser_fixture.h"
#include "train/optimizer.h"

namespace lf {

using ClipsAt = std::function<Clips(int64_t count, int64_t first_position)>;

// Trains in place and gives the mean loss of the last fifth.
inline double train(Model& model, const ClipsAt& clips_at, int64_t steps, int64_t batch,
                    double lr = 2e-3) {
  OptimizerConfig config;
  Optimizer optimizer(model.phases()[0], config);
  double sum = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const Loss loss = model.loss(clips_at(batch, step * batch), 0, true);
    loss.total.backward();
    const double left = static_cast<double>(steps - step) / static_cast<double>(steps);
    optimizer.set_learning_rate(lr * std::min(1.0, 4 * left));
    optimizer.step(optimizer.gradient_norm());
    for (const NamedTensor& weight : optimizer.phase().weights) {
      weight.tensor.mutable_grad().reset();
    }
    if (step >= steps - steps / 5) sum += loss.total.item<double>();
  }
  return sum / static_cast<double>(steps / 5);
}

struct Square {
  int64_t row = 0, column = 0, direction = 1;
};

inline Square square_of(int64_t position) {
  const Stream stream{21, Purpose::kGenerated, static_cast<uint64_t>(position), 0, 0};
  return {static_cast<int64_t>(random_below(stream, 0, 8)),
          static_cast<int64_t>(random_below(stream, 1, 8)),
          random_below(stream, 2, 2) == 0 ? -1 : 1};
}

// [frames, 8, 8, 1]
inline at::Tensor square_clip(const Square& square, int64_t frames) {
  at::Tensor clip = at::full({frames, 8, 8, 1}, -1.0F);
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t i = 0; i < 9; ++i) {
      const int64_t row = (square.row + i / 3) % 8,
                    column = (square.column + i % 3 + square.direction * t + 8 * frames) % 8;
      clip[t][row][column][0] = 1.0F;
    }
  }
  return clip;
}

// With a caption of four elements that encodes the direction.
inline Clips square_clips(int64_t count, int64_t first_position, int64_t frames) {
  Clips clips{at::zeros({count, frames, 8, 8, 1}), at::full({count}, -1, at::kLong), 5,
              first_position};
  at::Tensor captions = at::zeros({count, 4});
  for (int64_t i = 0; i < count; ++i) {
    const Square square = square_of(first_position + i);
    clips.x_BTHWC[i] = square_clip(square, frames);
    captions[i][square.direction < 0 ? 0 : 2] = 1;
  }
  clips.side.push_back({"caption", captions});
  return clips;
}

// How far the content of a frame moved to the next, from -3 to 4 places, for each clip.
inline at::Tensor motion(const at::Tensor& from_BHWC, const at::Tensor& to_BHWC) {
  std::vector<at::Tensor> fits;
  for (int64_t shift = -3; shift <= 4; ++shift) {
    fits.push_back((from_BHWC.roll({shift}, {2}) * to_BHWC).sum({1, 2, 3}));
  }
  return at::stack(fits, 1).argmax(1) - 3;
}

inline Config square_config(const std::vector<std::string>& more) {
  Config config = load_config(
      "", {"model.unet.width=32", "model.unet.multipliers=1,2", "model.unet.blocks=1",
           "model.unet.attention=8", "model.unet.heads=4", "model.unet.scale_shift=true",
           "model.diffusion.schedule=COSINE_LOG_SNR", "model.diffusion.prediction=V",
           "model.diffusion.sampler.kind=ANCESTRAL", "model.diffusion.sampler.steps=30"});
  set_options(config, more);
  return config;
}

inline std::unique_ptr<DiffusionModel> square_model(int frames,
                                                    const std::vector<std::string>& more) {
  return std::make_unique<DiffusionModel>(square_config(more), ClipShape{frames, 8, 8, 1},
                                          at::kCPU);
}

}  // namespace lf
