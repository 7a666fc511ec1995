// Which frames of a video the network sees at a time, and what each is to it: in training, and
// window by window when a video is made. Numbers only, no tensors. Called by the diffusion models
// and by tests.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "diffusion/frame_scheme.h"
#include "run.pb.h"

namespace lf {

enum class FrameRole : uint8_t {
  kObserved,  // given, without noise
  kLatent,    // to be made
  kAbsent,    // an empty place: nobody sees it
  kImage,     // an image of its own beside the video: seen by itself alone
};

// The frames of one call of the network: frame `index[i]` of the video in place i.
struct FrameWindow {
  std::vector<int64_t> index;
  std::vector<FrameRole> role;

  std::vector<int64_t> places(FrameRole wanted) const;  // that have this role,
  std::vector<int64_t> frames(FrameRole wanted) const;  // and the frames in them
  friend bool operator==(const FrameWindow&, const FrameWindow&) = default;
};

// Frames in every window of a model for videos of `frames` frames. Code::kUsage if the options do
// not fit that number.
int64_t window_frames(const DiffusionConfig& config, int64_t frames);

// The next of a stream of uniform numbers in [0, 1).
using Uniforms = std::function<double()>;

// The window a clip is trained with, chosen by these numbers.
FrameWindow training_window(const DiffusionConfig& config, int64_t frames, const Uniforms& uniform);

// The frames of a video of `frames` from which such a model makes the others; none if it makes all.
std::vector<int64_t> frames_to_give(const DiffusionConfig& config, int64_t frames);

// The windows that make those of frames 0 .. wanted - 1 that are not `given`, in order, by a model
// for videos of `frames`. The last may reach beyond `wanted`. `given` rises. Code::kUsage if the
// model cannot do this.
std::vector<FrameWindow> sampling_windows(const DiffusionConfig& config, int64_t frames,
                                          const std::vector<int64_t>& given, int64_t wanted);

// FLEXIBLE: the scheme of those windows, for who chooses what is shown (FrameDistance).
SchemeOptions scheme_options(const DiffusionConfig& config);
// A stage's frames, the observed ones first.
FrameWindow window_of(const SchemeStage& stage);

// Which of the windows, by their place among them, can be made at once: none is shown what another
// of its round makes, and all have the same roles in the same places. Rounds in an order in which
// what is shown is there; at most `most` windows in each.
std::vector<std::vector<size_t>> rounds_of(const std::vector<FrameWindow>& windows, size_t most);

}  // namespace lf
