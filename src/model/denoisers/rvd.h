// Residual video diffusion: a recurrent network predicts the mean of the next frame, diffusion
// samples the residual, conditioned on another recurrent network. Trained on whole clips, the
// residuals of all frames at one noise level; clips are sampled frame by frame after some given
// first ones. Schedule, prediction, weighting and sampler are model.diffusion's.
#pragma once

#include "diffusion/sampler.h"
#include "model/denoisers/frame_batch.h"
#include "model/denoisers/rvd_networks.h"

namespace lf {

class Rvd : public Model {
 public:
  // Code::kUsage if the options contradict each other or the clips.
  Rvd(const Config& config, const ClipShape& clip, at::Device device, const SumOverRanks& sum);

  const ParameterTable& parameters() const override { return table_; }
  std::vector<Phase> phases() const override { return {{"rvd", table_.weights()}}; }
  Loss loss(const Clips& clips, size_t phase, bool training) override;
  std::string unrecordable() const override { return {}; }
  void after_update(int64_t images, const at::Tensor& moved) override;
  at::Tensor preview(const Clips& clips) override { return reconstruct(clips); }
  at::Tensor reconstruct(const Clips& clips) override;
  std::vector<int64_t> frames_to_give() const override;
  at::Tensor sample(const SampleRequest& request) override;

  // Recurrent states of a batch of sequences.
  struct State {
    RecurrentState mean, context;
  };
  // Predictions for the frame after each of these, [B, T, H, W, C]; updates the state. Gradients
  // reach back model.rvd.back_frames.
  struct Forecast {
    at::Tensor mean;  // of the next frames, [T * B, C, H, W], time first
    Tensors context;  // conditioning of the denoiser at every level, likewise
  };
  Forecast forecast(const at::Tensor& x_BTHWC, State& state) const;
  // Samples the frame after the last of the forecast, as mean and residual, [B, H, W, C] each.
  // `noise` returns new normal values of that shape.
  struct NextFrame {
    at::Tensor mean, residual;
  };
  NextFrame next_frame(const Forecast& forecast, int64_t clips,
                       const std::function<at::Tensor()>& noise) const;
  double scale() const;  // of residuals

 private:
  at::Tensor scale_tensor() const;
  FrameBatch levels_of(const Clips& clips) const;
  ParameterTable table_;
  RvdConfig config_;
  DiffusionConfig diffusion_;
  ClipShape clip_;
  at::Device device_;
  SumOverRanks sum_;
  NoiseSchedule schedule_;
  RecurrentLevels mean_levels_;
  MeanDecoder mean_decoder_;
  RecurrentLevels context_levels_;
  ContextDenoiser denoiser_;
  at::Tensor residual_square_;  // a buffer [1]: running mean square of residuals; 0: no batch yet
  at::Tensor since_update_;     // [2]: sum of squares and count of residual elements
};

}  // namespace lf
