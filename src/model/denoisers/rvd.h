// Residual video diffusion: the next frame as a mean, said by a recurrent network, and a rest that
// diffusion makes from what another recurrent network knows. Trained on whole clips, all frames'
// rests at one noise level; clips are made frame by frame from some given first ones. Schedule,
// prediction, weight and sampler are model.diffusion's. Called by make_model; tests of single steps
// call forecast() and rest().
#pragma once

#include "diffusion/sampler.h"
#include "model/denoisers/places.h"
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

  // What has been seen of some sequences.
  struct State {
    RecurrentState mean, context;
  };
  // What is known of the frame after each of these, [B, T, H, W, C]; moves the state on. Gradients
  // go back as the options say.
  struct Forecast {
    at::Tensor mean;  // of the next frames, [T * B, C, H, W], the first frame's clips first
    Tensors context;  // of every level, likewise
  };
  Forecast forecast(const at::Tensor& x_BTHWC, State& state) const;
  // The frame after the last of the forecast: a mean and a rest, [B, H, W, C] each. `noise` gives
  // new normal numbers of that shape.
  struct NextFrame {
    at::Tensor mean, rest;
  };
  NextFrame next_frame(const Forecast& forecast, int64_t clips,
                       const std::function<at::Tensor()>& noise) const;
  double scale() const;  // of rests

 private:
  at::Tensor scale_tensor() const;
  Places levels_of(const Clips& clips) const;
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
  at::Tensor rest_square_;  // a buffer [1], the running mean square of rests; 0: not known yet
  at::Tensor seen_;         // [2], sum of squares and number of rests since the last update
};

}  // namespace lf
