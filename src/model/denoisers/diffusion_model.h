// Diffusion over clips with any network of denoiser.h: the loss of every schedule, prediction and
// weight of DiffusionConfig, and clips made by its sampler, all frames together, one after the
// other or some from given ones; in pixels or in a tokenizer's latents. Noise levels, noise and
// what a clip is trained to do are keyed by its position. Called by make_model; tests and
// measurements of single steps call estimate().
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

// What clips are to show, as NoisyClips has it.
struct Shown {
  at::Tensor labels_B, text_BE;
  at::Tensor small_BTHWC;  // the small clip as large as the other, beside it in the input
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
  // The image in z, whose frames (those of `window`) have these levels.
  Estimate estimate(const at::Tensor& z_BTHWC, const FrameWindow& window,
                    const std::vector<NoiseLevel>& levels, const Shown& shown) const {
    return estimate(z_BTHWC, std::vector<FrameWindow>{window}, levels, shown);
  }
  // The same of several windows, as many clips of each, one window after the other; they differ in
  // the numbers of their frames alone.
  Estimate estimate(const at::Tensor& z_BTHWC, const std::vector<FrameWindow>& windows,
                    const std::vector<NoiseLevel>& levels, const Shown& shown) const;

 private:
  struct Lesson;  // what a batch is trained with
  struct Making;  // one batch of clips being made
  class Round;    // windows of them that are made together
  Lesson lesson_of(const Clips& clips) const;
  Lesson lesson_on_host(const Clips& clips) const;
  at::Tensor diffused(const Clips& clips, const Lesson& lesson) const;
  Shown shown_of(const Clips& clips, bool training) const;
  at::Tensor smaller(const at::Tensor& x_BTHWC) const;
  at::Tensor as_shown(const at::Tensor& small_BTHWC, const at::Tensor& noise) const;
  std::vector<at::Tensor> estimated(const std::vector<at::Tensor>& inputs) const;
  at::Tensor ask(const NoisyClips& clips, const at::Tensor& z, const at::Tensor& scale,
                 const at::Tensor& small) const;
  at::Tensor learned_variance_bits(const Lesson& lesson, const at::Tensor& x, const at::Tensor& z,
                                   const at::Tensor& said) const;

  SampleRequest request_for(const Clips& clips) const;
  void check(const SampleRequest& request) const;
  Making making_of(const SampleRequest& request, int64_t frames) const;
  Estimate estimate_given(Round& round, const at::Tensor& z, const NoiseLevel& level) const;
  Estimate guided_estimate(const Round& round, const at::Tensor& z,
                           const std::vector<NoiseLevel>& levels) const;
  Estimate kept_in_range(const Round& round, Estimate estimate) const;
  void make(Making& making, Round round) const;
  bool adapts() const {
    return config_.frames() == DiffusionConfig::FLEXIBLE && config_.sampler().adaptive();
  }
  at::Tensor sample_each(const SampleRequest& request);
  void make_adaptively(Making& making, const std::vector<int64_t>& given, int64_t wanted,
                       const ImageDistance& distance) const;

  ParameterTable table_;
  DiffusionConfig config_;
  ClipShape clip_;  // in pixels
  at::Device device_;
  std::unique_ptr<LatentSpace> latents_;  // none: diffusion is in pixels
  ClipShape shape_;                       // of what is diffused
  int64_t places_;                        // frames that the network sees at a time
  bool marks_;                            // the network is told which frames are observed
  bool last_frame_only_;                  // is within the range of pixels: the others carry noise
  bool replays_wanted_;                   // train.graph
  NoiseSchedule schedule_;
  std::unique_ptr<Denoiser> network_;
  std::unique_ptr<Replays> replays_;  // of the network, while clips are made
};

}  // namespace lf
