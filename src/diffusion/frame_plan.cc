#include "diffusion/frame_plan.h"

#include <algorithm>

#include "base/error.h"

namespace lf {
namespace {

// `size` places from frame `first` on: those before `made` observed, from there on latent.
FrameWindow window_from(int64_t first, int64_t size, int64_t made) {
  FrameWindow window;
  for (int64_t frame = first; frame < first + size; ++frame) {
    window.index.push_back(frame);
    window.role.push_back(frame < 0      ? FrameRole::kAbsent
                          : frame < made ? FrameRole::kObserved
                                         : FrameRole::kLatent);
  }
  return window;
}

std::vector<FrameWindow> joint_windows(const DiffusionConfig& config, int64_t frames, int64_t given,
                                       int64_t wanted) {
  if (frames == 1 && wanted > 1) {
    fail(Code::kUsage, "this model makes single images, and ", wanted,
         " frames are wanted; train it on videos");
  }
  const int64_t asked = config.sampler().overlap_frames();
  if (asked >= frames && wanted > frames) {
    fail(Code::kUsage, "model.diffusion.sampler.overlap_frames is ", asked,
         ", expected less than the model's ", frames, " frames, so that a window makes some");
  }
  const int64_t overlap = asked > 0 ? asked : frames / 2;
  std::vector<FrameWindow> windows;
  for (int64_t made = given; made < wanted;) {
    const bool opening = made == given && given < frames;
    const int64_t first = made - (opening ? made : std::min(made, overlap));
    // The last window reaches back rather than beyond the end.
    const int64_t size = std::min(frames, wanted),
                  begin = std::min(first, std::max<int64_t>(0, wanted - size));
    windows.push_back(window_from(begin, size, made));
    made = begin + size;
  }
  return windows;
}

}  // namespace

std::vector<int64_t> FrameWindow::places(FrameRole wanted) const {
  std::vector<int64_t> found;
  for (size_t i = 0; i < role.size(); ++i) {
    if (role[i] == wanted) found.push_back(static_cast<int64_t>(i));
  }
  return found;
}

std::vector<int64_t> FrameWindow::frames(FrameRole wanted) const {
  std::vector<int64_t> found;
  for (const int64_t place : places(wanted)) found.push_back(index[static_cast<size_t>(place)]);
  return found;
}

int64_t window_frames(const DiffusionConfig& config, int64_t frames) {
  switch (config.frames()) {
    case DiffusionConfig::JOINT:
      return frames;
    case DiffusionConfig::AUTOREGRESSIVE:
    case DiffusionConfig::LAST:
      if (config.history() >= frames) {
        fail(Code::kUsage, "model.diffusion.history is ", config.history(),
             ", expected less than the ", frames, " frames of a clip");
      }
      return config.history() + 1;
    case DiffusionConfig::PREDICT:
      if (config.given() >= frames) {
        fail(Code::kUsage, "model.diffusion.given is ", config.given(), ", expected less than the ",
             frames, " frames of a clip, so that some are left to predict");
      }
      return frames;
  }
  LF_CHECK(false, "no such mode");
}

FrameWindow training_window(const DiffusionConfig& config, int64_t frames, double uniform) {
  const int64_t size = window_frames(config, frames);
  switch (config.frames()) {
    case DiffusionConfig::JOINT:
      return window_from(0, size, 0);
    case DiffusionConfig::AUTOREGRESSIVE: {
      const auto frame =
          std::min(frames - 1, static_cast<int64_t>(uniform * static_cast<double>(frames)));
      return window_from(frame + 1 - size, size, frame);
    }
    case DiffusionConfig::LAST:
      return window_from(frames - size, size, frames - 1);
    case DiffusionConfig::PREDICT:
      return window_from(0, size, config.given());
  }
  LF_CHECK(false, "no such mode");
}

std::vector<FrameWindow> sampling_windows(const DiffusionConfig& config, int64_t frames,
                                          int64_t given, int64_t wanted) {
  const int64_t size = window_frames(config, frames);
  std::vector<FrameWindow> windows;
  switch (config.frames()) {
    case DiffusionConfig::JOINT:
      return joint_windows(config, frames, given, wanted);
    case DiffusionConfig::AUTOREGRESSIVE:
      for (int64_t frame = given; frame < wanted; ++frame) {
        windows.push_back(window_from(frame + 1 - size, size, frame));
      }
      return windows;
    case DiffusionConfig::LAST:
      if (given != frames - 1 || wanted != frames) {
        fail(Code::kUsage, "this model makes the last of ", frames, " frames from those before it;",
             " expected ", frames - 1, " given frames and ", frames, " wanted, got ", given,
             " and ", wanted);
      }
      return {window_from(frames - size, size, frames - 1)};
    case DiffusionConfig::PREDICT:
      if (given < config.given()) {
        fail(Code::kUsage, "this model predicts from ", config.given(),
             " frames, and the request gives ", given, "; give it as many");
      }
      for (int64_t made = given; made < wanted; made += size - config.given()) {
        windows.push_back(window_from(made - config.given(), size, made));
      }
      return windows;
  }
  LF_CHECK(false, "no such mode");
}

}  // namespace lf
