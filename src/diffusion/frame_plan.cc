#include "diffusion/frame_plan.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "diffusion/frame_tasks.h"

namespace lf {
namespace {

using Frames = std::set<int64_t>;

// `size` places from frame `first` on: the frames that exist are observed, the others latent.
FrameWindow window_from(int64_t first, int64_t size, const Frames& existing) {
  FrameWindow window;
  for (int64_t frame = first; frame < first + size; ++frame) {
    window.index.push_back(frame);
    window.role.push_back(frame < 0                    ? FrameRole::kAbsent
                          : existing.count(frame) != 0 ? FrameRole::kObserved
                                                       : FrameRole::kLatent);
  }
  return window;
}

// Frames 0 .. count - 1.
Frames first_frames(int64_t count) {
  Frames frames;
  for (int64_t frame = 0; frame < count; ++frame) frames.insert(frame);
  return frames;
}

Frames as_set(const std::vector<int64_t>& frames) { return {frames.begin(), frames.end()}; }

std::string text_of(const std::vector<int64_t>& frames) {
  std::vector<std::string> words;
  for (const int64_t frame : frames) words.push_back(std::to_string(frame));
  return words.empty() ? "none" : join(words, ", ");
}

// Windows from left to right, each of which begins with `overlap` existing frames. The last one
// observes more of them or, with `beyond`, reaches past the end.
std::vector<FrameWindow> sliding_windows(int64_t frames, int64_t overlap, Frames existing,
                                         int64_t wanted, bool beyond = false) {
  std::vector<FrameWindow> windows;
  const int64_t size = std::min(frames, wanted);
  for (int64_t next = 0; next < wanted; ++next) {
    if (existing.count(next) != 0) continue;
    const bool opening = windows.empty() && next < size;
    const int64_t first = opening ? 0 : next - std::min(next, overlap);
    const int64_t begin = beyond ? first : std::min(first, std::max<int64_t>(0, wanted - size));
    windows.push_back(window_from(begin, size, existing));
    for (int64_t frame = begin; frame < begin + size; ++frame) existing.insert(frame);
  }
  return windows;
}

std::vector<FrameWindow> joint_windows(const DiffusionConfig& config, int64_t frames,
                                       const Frames& given, int64_t wanted) {
  if (frames == 1 && wanted > 1) {
    fail(Code::kUsage, "this model makes single images, and ", wanted,
         " frames are wanted; train it on videos");
  }
  const int64_t asked = config.sampler().overlap_frames();
  if (asked >= frames && wanted > frames) {
    fail(Code::kUsage, "model.diffusion.sampler.overlap_frames is ", asked,
         ", expected less than the model's ", frames, " frames, so that a window makes some");
  }
  int64_t overlap = asked > 0 ? asked : frames / 2;
  const bool random = config.frames() == DiffusionConfig::RANDOM;
  if (asked == 0 && random) overlap = std::min<int64_t>(overlap, config.most_given());
  // A RANDOM model was not trained with more given frames than most_given.
  return sliding_windows(frames, overlap, given, wanted, /*beyond=*/random);
}

std::vector<FrameWindow> next_windows(int64_t size, Frames existing, int64_t wanted) {
  std::vector<FrameWindow> windows;
  for (int64_t frame = 0; frame < wanted; ++frame) {
    if (existing.count(frame) != 0) continue;
    windows.push_back(window_from(frame + 1 - size, size, existing));
    existing.insert(frame);
  }
  return windows;
}

std::vector<FrameWindow> predicting_windows(const DiffusionConfig& config, int64_t size,
                                            const std::vector<int64_t>& given, int64_t wanted) {
  const auto count = static_cast<int64_t>(given.size());
  if (count < config.given()) {
    fail(Code::kUsage, "this model predicts from ", config.given(),
         " frames, and the request gives ", count, "; give it as many");
  }
  if (given.back() != count - 1) {
    fail(Code::kUsage, "this model continues the first frames, and the request gives frames ",
         text_of(given), "; give frames 0 to ", count - 1);
  }
  std::vector<FrameWindow> windows;
  for (int64_t made = count; made < wanted; made += size - config.given()) {
    windows.push_back(window_from(made - config.given(), size, first_frames(made)));
  }
  return windows;
}

std::vector<FrameWindow> between_windows(const DiffusionConfig& config, int64_t size,
                                         const std::vector<int64_t>& given, int64_t wanted) {
  std::vector<int64_t> expected;
  for (int64_t frame = 0; frame < wanted; frame += config.stride()) expected.push_back(frame);
  if (given != expected || wanted < size || (wanted - 1) % config.stride() != 0) {
    fail(Code::kUsage, "this model makes the frames between every ", config.stride(),
         "th of at least ", size, "; expected frames 0, ", config.stride(), ", ... to the last of ",
         "the ", wanted, " wanted, got ", text_of(given));
  }
  return sliding_windows(size, 1, as_set(given), wanted);
}

std::vector<FrameWindow> flexible_windows(const DiffusionConfig& config,
                                          const std::vector<int64_t>& given, int64_t wanted) {
  std::vector<FrameWindow> windows;
  for (const SchemeStage& stage : scheme_stages(scheme_options(config), wanted, given)) {
    windows.push_back(window_of(stage));
  }
  return windows;
}

// The frames of a clip that model.diffusion.observe names.
std::vector<int64_t> shown_by_config(const DiffusionConfig& config, int64_t frames) {
  std::vector<int64_t> given(config.observe().begin(), config.observe().end());
  const bool ascending =
      std::adjacent_find(given.begin(), given.end(), std::greater_equal<>()) == given.end();
  if (!ascending || (!given.empty() && given.back() >= frames) ||
      static_cast<int64_t>(given.size()) == frames) {
    fail(Code::kUsage, "model.diffusion.observe is ", text_of(given),
         "; expected some of the frames 0 to ", frames - 1, " of a clip, in ascending order");
  }
  return given;
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

FrameWindow window_of(const SchemeStage& stage) {
  FrameWindow window{stage.observed, {}};
  window.role.resize(stage.observed.size(), FrameRole::kObserved);
  window.index.insert(window.index.end(), stage.latent.begin(), stage.latent.end());
  window.role.resize(window.index.size(), FrameRole::kLatent);
  return window;
}

std::vector<std::vector<size_t>> rounds_of(const std::vector<FrameWindow>& windows, size_t most) {
  std::vector<std::vector<size_t>> rounds;
  if (most == 1) {  // in their own order
    for (size_t i = 0; i < windows.size(); ++i) rounds.push_back({i});
    return rounds;
  }
  std::map<int64_t, int64_t> round_of;  // the round that makes a frame
  std::map<std::pair<int64_t, std::vector<FrameRole>>, std::vector<size_t>> alike;
  for (size_t i = 0; i < windows.size(); ++i) {
    int64_t round = 0;
    for (const int64_t frame : windows[i].frames(FrameRole::kObserved)) {
      const auto found = round_of.find(frame);
      if (found != round_of.end()) round = std::max(round, found->second + 1);
    }
    for (const int64_t frame : windows[i].frames(FrameRole::kLatent)) round_of[frame] = round;
    alike[{round, windows[i].role}].push_back(i);
  }
  for (const auto& [key, members] : alike) {
    for (size_t i = 0; i < members.size(); i += most) {
      const auto begin = members.begin() + static_cast<ptrdiff_t>(i);
      rounds.emplace_back(begin,
                          begin + static_cast<ptrdiff_t>(std::min(most, members.size() - i)));
    }
  }
  return rounds;
}

SchemeOptions scheme_options(const DiffusionConfig& config) {
  const SamplerConfig& sampler = config.sampler();
  SchemeOptions options;
  switch (sampler.scheme()) {
    case SamplerConfig::NEXT:
      options.kind = SchemeKind::kAutoregressive;
      break;
    case SamplerConfig::LONG_RANGE:
      options.kind = SchemeKind::kLongRange;
      break;
    case SamplerConfig::HIERARCHY:
      options.kind = SchemeKind::kHierarchy;
      break;
  }
  options.window = config.window();
  options.step = sampler.step() > 0 ? sampler.step() : config.window() / 2;
  options.levels = sampler.levels();
  return options;
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
    case DiffusionConfig::BETWEEN:
      if (frames <= config.stride() || (frames - 1) % config.stride() != 0) {
        fail(Code::kUsage, "model.diffusion.stride is ", config.stride(),
             ", which does not divide the ", frames, " frames of a clip less one; clips of ",
             config.stride() + 1, ", ", 2 * config.stride() + 1, ", ... frames serve");
      }
      return frames;
    case DiffusionConfig::FLEXIBLE:
      if (config.window() > frames) {
        fail(Code::kUsage, "model.diffusion.window is ", config.window(),
             ", expected no more than the ", frames, " frames of a clip");
      }
      return config.window();
    case DiffusionConfig::RANDOM:
      if (config.most_given() >= frames) {
        fail(Code::kUsage, "model.diffusion.most_given is ", config.most_given(),
             ", expected less than the ", frames,
             " frames of a clip, so that some are left to make");
      }
      return frames;
  }
  LF_CHECK(false, "no such mode");
}

std::vector<int64_t> frames_to_give(const DiffusionConfig& config, int64_t frames) {
  std::vector<int64_t> given;
  switch (config.frames()) {
    case DiffusionConfig::JOINT:
    case DiffusionConfig::AUTOREGRESSIVE:
      break;
    case DiffusionConfig::LAST:
      given.resize(static_cast<size_t>(frames - 1));
      break;
    case DiffusionConfig::PREDICT:
      given.resize(static_cast<size_t>(config.given()));
      break;
    case DiffusionConfig::BETWEEN:
      for (int64_t frame = 0; frame < frames; frame += config.stride()) given.push_back(frame);
      return given;
    case DiffusionConfig::FLEXIBLE:
    case DiffusionConfig::RANDOM:
      return shown_by_config(config, frames);
  }
  std::iota(given.begin(), given.end(), 0);
  return given;
}

FrameWindow training_window(const DiffusionConfig& config, int64_t frames,
                            const Uniforms& uniform) {
  const int64_t size = window_frames(config, frames);
  switch (config.frames()) {
    case DiffusionConfig::AUTOREGRESSIVE: {
      const auto frame =
          std::min(frames - 1, static_cast<int64_t>(uniform() * static_cast<double>(frames)));
      return window_from(frame + 1 - size, size, first_frames(frame));
    }
    case DiffusionConfig::LAST:
      return window_from(frames - size, size, first_frames(frames - 1));
    case DiffusionConfig::JOINT:
    case DiffusionConfig::PREDICT:
    case DiffusionConfig::BETWEEN:
      return window_from(0, size, as_set(frames_to_give(config, frames)));
    case DiffusionConfig::FLEXIBLE:
      return grouped_task(frames, size, config.observed(), uniform);
    case DiffusionConfig::RANDOM:
      return masked_task(frames, config.most_given(), config.unconditional(), uniform);
  }
  LF_CHECK(false, "no such mode");
}

std::vector<FrameWindow> sampling_windows(const DiffusionConfig& config, int64_t frames,
                                          const std::vector<int64_t>& given, int64_t wanted) {
  const int64_t size = window_frames(config, frames);
  if (!given.empty() && given.back() >= wanted) {
    fail(Code::kUsage, "frame ", given.back(), " is given, and frames 0 to ", wanted - 1,
         " are wanted, the given ones included; ask for more");
  }
  switch (config.frames()) {
    case DiffusionConfig::JOINT:
    case DiffusionConfig::RANDOM:
      return joint_windows(config, frames, as_set(given), wanted);
    case DiffusionConfig::FLEXIBLE:
      return flexible_windows(config, given, wanted);
    case DiffusionConfig::AUTOREGRESSIVE:
      return next_windows(size, as_set(given), wanted);
    case DiffusionConfig::LAST:
      if (given != frames_to_give(config, frames) || wanted != frames) {
        fail(Code::kUsage, "this model makes the last of ", frames, " frames from those before it;",
             " expected frames 0 to ", frames - 2, " given and ", frames, " wanted, got ",
             text_of(given), " and ", wanted);
      }
      return {window_from(frames - size, size, first_frames(frames - 1))};
    case DiffusionConfig::PREDICT:
      return predicting_windows(config, size, given, wanted);
    case DiffusionConfig::BETWEEN:
      return between_windows(config, size, given, wanted);
  }
  LF_CHECK(false, "no such mode");
}

}  // namespace lf
