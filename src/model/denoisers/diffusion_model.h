// Diffusion over clips with any network of denoiser.h: the loss for every schedule, prediction and
// weighting of DiffusionConfig, and its samplers (all frames jointly, window by window, or some
// frames given others), in pixels or in a tokenizer's latents. Noise levels, noise and the windows
// trained on are keyed by a clip's position.
#pragma once

#include <memory>
#include <vector>

#include "diffusion/noise_schedule.h"
#include "diffusion/sampler.h"
#include "model/denoisers/denoiser.h"
#include "model/denoisers/latents.h"
#include "model/model.h"
#include "model/replays.h"

namespace lf {

// Conditioning of clips, as in NoisyClips.
struct Conditioning {
  at::Tensor labels_B, text;
  at::Tensor small_BTHWC;  // super-resolution: the small clip, upsampled, concatenated to the input
};

class DiffusionModel : public Model {
 public:
  // Code::kUsage if the options contradict each other or the clips.
  DiffusionModel(const Config& config, const ClipShape& clip, at::Device device,
                 const SumOverRanks& sum = {}, const OpenExport& open = {});

  const ParameterTable& parameters() const override { return table_; }
  std::vector<Phase> phases() const override { return {{"denoiser", table_.weights()}}; }
  Loss loss(const Clips& clips, size_t phase, bool training) override;
  std::string unrecordable() const override { return {}; }
  at::Tensor preview(const Clips& clips) override;
  at::Tensor reconstruct(const Clips& clips) override;
  at::Tensor sample(const SampleRequest& request) override;
  std::vector<int64_t> frames_to_give() const override;

  int64_t images_per_clip() const override { return config_.images(); }

  const NoiseSchedule& schedule() const { return schedule_; }
  // The denoised image of z, whose frames (those of `window`) have these noise levels.
  Estimate estimate(const at::Tensor& z_BTHWC, const FrameWindow& window,
                    const std::vector<NoiseLevel>& levels, const Conditioning& conditioning) const {
    return estimate(z_BTHWC, std::vector<FrameWindow>{window}, levels, conditioning);
  }
  // The same for several windows with equally many clips each, one window after the other. Windows
  // may differ in the indices of their frames only.
  Estimate estimate(const at::Tensor& z_BTHWC, const std::vector<FrameWindow>& windows,
                    const std::vector<NoiseLevel>& levels, const Conditioning& conditioning) const;

 private:
  struct LossInputs;     // of one batch, beside its clips and noise
  struct SamplingState;  // of one batch of clips
  class Round;           // windows of them that are sampled together
  LossInputs loss_inputs(const Clips& clips) const;
  LossInputs loss_inputs_on_host(const Clips& clips) const;
  at::Tensor clean_frames(const Clips& clips, const LossInputs& in) const;
  Conditioning conditioning_of(const Clips& clips, bool training) const;
  at::Tensor downsampled(const at::Tensor& x_BTHWC) const;
  at::Tensor upsampled(const at::Tensor& small_BTHWC, const at::Tensor& noise) const;
  std::vector<at::Tensor> estimate_on_device(const std::vector<at::Tensor>& inputs) const;
  at::Tensor run_network(const NoisyClips& clips, const at::Tensor& z, const at::Tensor& scale,
                         const at::Tensor& small) const;
  at::Tensor learned_variance_bits(const LossInputs& in, const at::Tensor& x, const at::Tensor& z,
                                   const at::Tensor& output) const;

  SampleRequest request_for(const Clips& clips) const;
  void check(const SampleRequest& request) const;
  SamplingState begin_sampling(const SampleRequest& request, int64_t frames) const;
  Estimate estimate_given(Round& round, const at::Tensor& z, const NoiseLevel& level) const;
  Estimate guided_estimate(const Round& round, const at::Tensor& z,
                           const std::vector<NoiseLevel>& levels) const;
  Estimate clipped(const Round& round, Estimate estimate) const;
  void sample_round(SamplingState& state, Round round) const;
  bool adapts() const {
    return config_.frames() == DiffusionConfig::FLEXIBLE && config_.sampler().adaptive();
  }
  at::Tensor sample_each(const SampleRequest& request);
  void sample_adaptively(SamplingState& state, const std::vector<int64_t>& given, int64_t wanted,
                         const ImageDistance& distance) const;

  ParameterTable table_;
  DiffusionConfig config_;
  ClipShape clip_;  // in pixels
  at::Device device_;
  std::unique_ptr<LatentSpace> latents_;  // null: diffusion is in pixels
  ClipShape shape_;                       // of a clip in pixels or latents
  int64_t window_frames_;                 // frames in one call of the network
  bool marks_observed_;                   // by an input channel
  bool clips_last_frame_only_;            // to [-1, 1]: the recipe adds noise to the others
  bool records_;                          // train.graph is ON
  NoiseSchedule schedule_;
  std::unique_ptr<Denoiser> network_;
  std::unique_ptr<Replays> replays_;  // of the network, while sampling
};

}  // namespace lf
