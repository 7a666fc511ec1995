// Frame windows: which frames of a video the network sees at a time and in which role, in training
// and when a video is sampled window by window. Indices only, no tensors.
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
  kAbsent,    // an empty place: no frame attends to it
  kImage,     // an independent image beside the video: it attends to itself alone
};

// The frames of one network call: place i holds frame `index[i]` of the video.
struct FrameWindow {
  std::vector<int64_t> index;
  std::vector<FrameRole> role;

  std::vector<int64_t> places(FrameRole wanted) const;  // the places that have this role
  std::vector<int64_t> frames(FrameRole wanted) const;  // the frames in those places
  friend bool operator==(const FrameWindow&, const FrameWindow&) = default;
};

// Frames in a window of a model for videos of `frames` frames. Throws Code::kUsage if the options
// do not fit that number.
int64_t window_frames(const DiffusionConfig& config, int64_t frames);

// Returns the next of a stream of uniform draws from [0, 1).
using Uniforms = std::function<double()>;

// The window that a clip is trained with, a function of the draws.
FrameWindow training_window(const DiffusionConfig& config, int64_t frames, const Uniforms& uniform);

// The frames that condition such a model for videos of `frames` frames; none if it makes all.
std::vector<int64_t> frames_to_give(const DiffusionConfig& config, int64_t frames);

// The windows, in order, in which a model for videos of `frames` frames makes those of frames
// 0 .. wanted - 1 that are not `given`, which is sorted. The last may reach beyond `wanted`. Throws
// Code::kUsage if the model cannot do this.
std::vector<FrameWindow> sampling_windows(const DiffusionConfig& config, int64_t frames,
                                          const std::vector<int64_t>& given, int64_t wanted);

// FLEXIBLE: the scheme of those windows, for callers that choose the observed frames themselves
// (FrameDistance).
SchemeOptions scheme_options(const DiffusionConfig& config);
// A stage as a window: the observed frames first.
FrameWindow window_of(const SchemeStage& stage);

// Groups windows, by index, into rounds of at most `most` that can be sampled as one batch: no
// window observes what another of its round makes, and all have the same roles in the same places.
// A round observes only what earlier ones made.
std::vector<std::vector<size_t>> rounds_of(const std::vector<FrameWindow>& windows, size_t most);

}  // namespace lf
