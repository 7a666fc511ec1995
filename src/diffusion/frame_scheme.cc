#include "diffusion/frame_scheme.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace lf {
namespace {

// `count` evenly spaced frames from `first` to `last`, both included, rounded down, each once.
std::vector<int64_t> spread(int64_t first, int64_t last, int64_t count) {
  std::vector<int64_t> frames;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t frame = count == 1 ? first : first + (last - first) * i / (count - 1);
    if (frames.empty() || frames.back() != frame) frames.push_back(frame);
  }
  return frames;
}

std::vector<int64_t> last_of(const std::vector<int64_t>& sorted, int64_t count) {
  const auto begin = std::max<int64_t>(0, static_cast<int64_t>(sorted.size()) - count);
  return {sorted.begin() + begin, sorted.end()};
}

bool holds(const std::vector<int64_t>& sorted, int64_t frame) {
  return std::binary_search(sorted.begin(), sorted.end(), frame);
}

void check_options(const SchemeOptions& options, int64_t frames,
                   const std::vector<int64_t>& given) {
  if (options.window < 2 || options.step < 1 || options.step >= options.window) {
    fail(Code::kUsage, "a scheme with windows of ", options.window, " frames and steps of ",
         options.step,
         "; expected at least 2 frames in a window and a smaller, positive step, so "
         "that some frames are observed and some are made");
  }
  if (options.kind == SchemeKind::kHierarchy && (options.levels < 2 || options.step < 2)) {
    fail(Code::kUsage, "a hierarchy of ", options.levels, " levels and steps of ", options.step,
         "; expected at least 2 of both");
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] < 0 || given[i] >= frames) {
      fail(Code::kUsage, "frame ", given[i], " is given, and the video has frames 0 to ",
           frames - 1, "; give frames of the video, or ask for more frames");
    }
    if (i > 0 && given[i] <= given[i - 1]) {
      fail(Code::kUsage, "the given frames are out of order at ", given[i],
           "; name each once, in ascending order");
    }
  }
}

}  // namespace

FrameScheme::FrameScheme(const SchemeOptions& options, int64_t frames,
                         const std::vector<int64_t>& given)
    : options_(options),
      frames_(frames),
      given_(static_cast<int64_t>(given.size())),
      references_(given) {
  check_options(options, frames, given);
  made_.resize(static_cast<size_t>(frames), false);
  for (const int64_t frame : given) made_[static_cast<size_t>(frame)] = true;
}

bool FrameScheme::finished() const {
  return std::find(made_.begin(), made_.end(), false) == made_.end();
}

std::vector<int64_t> FrameScheme::made_frames() const {
  std::vector<int64_t> frames;
  for (int64_t frame = 0; frame < frames_; ++frame) {
    if (made_[static_cast<size_t>(frame)]) frames.push_back(frame);
  }
  return frames;
}

SchemeStage FrameScheme::next(const FrameDistance& distance) {
  LF_CHECK(!finished(), "the scheme has no stage left");
  SchemeStage stage;
  if (references_.empty()) {
    stage = opening();
    references_ = stage.latent;
    level_ = 2;
  } else if (options_.kind == SchemeKind::kHierarchy) {
    stage = stage_of_hierarchy();
  } else {
    stage = stage_after_newest();
  }
  if (distance && !stage.observed.empty()) stage.observed = most_different(stage, distance);
  for (const int64_t frame : stage.latent) made_[static_cast<size_t>(frame)] = true;
  return stage;
}

// No frame exists yet: a full window of the first frames, or of frames spread over the video.
SchemeStage FrameScheme::opening() const {
  const int64_t count = std::min(options_.window, frames_);
  const bool wide = options_.kind == SchemeKind::kHierarchy;
  return {{}, spread(0, wide ? frames_ - 1 : count - 1, count)};
}

// The first gap's frames, conditioned on the newest frames before it.
SchemeStage FrameScheme::stage_after_newest() const {
  SchemeStage stage;
  const auto gap = std::find(made_.begin(), made_.end(), false) - made_.begin();
  for (int64_t frame = gap; frame < frames_ && !made_[static_cast<size_t>(frame)] &&
                            static_cast<int64_t>(stage.latent.size()) < options_.step;
       ++frame) {
    stage.latent.push_back(frame);
  }
  std::vector<int64_t> before;
  for (const int64_t frame : made_frames()) {
    if (frame < gap) before.push_back(frame);
  }
  const int64_t places = options_.window - options_.step;
  if (options_.kind == SchemeKind::kAutoregressive) {
    stage.observed = last_of(before, places);
    // Frames given behind the gap are where the video must arrive: they take up to half the places.
    for (const int64_t frame : made_frames()) {
      const auto behind = static_cast<int64_t>(std::count_if(
          stage.observed.begin(), stage.observed.end(), [&](int64_t f) { return f > gap; }));
      if (frame < gap || (2 * (behind + 1) > places && !stage.observed.empty())) continue;
      if (static_cast<int64_t>(stage.observed.size()) == places) {
        stage.observed.erase(stage.observed.begin());
      }
      stage.observed.push_back(frame);
    }
    return stage;
  }
  stage.observed = last_of(before, places / 2);
  for (size_t i = references_.size();
       i-- > 0 && static_cast<int64_t>(stage.observed.size()) < places;) {
    if (holds(stage.observed, references_[i])) continue;
    stage.observed.insert(
        std::lower_bound(stage.observed.begin(), stage.observed.end(), references_[i]),
        references_[i]);
  }
  return stage;
}

// The spacing of the frames that a level makes; it falls by equal factors to 1 in the last level.
int64_t FrameScheme::stride() const {
  const double widest =
      static_cast<double>(frames_ - given_) / static_cast<double>(options_.step - 1);
  const double part =
      static_cast<double>(options_.levels - level_) / static_cast<double>(options_.levels - 1);
  // 1e-9: the root of a whole power may be rounded down.
  return std::max<int64_t>(1, static_cast<int64_t>(std::floor(std::pow(widest, part) + 1e-9)));
}

std::vector<int64_t> FrameScheme::latents_of_level(int64_t step) const {
  std::vector<int64_t> latent;
  int64_t frame = reached_;
  while (static_cast<int64_t>(latent.size()) < step) {
    frame += stride();
    while (frame < frames_ && made_[static_cast<size_t>(frame)]) ++frame;
    if (frame >= frames_) break;
    latent.push_back(frame);
  }
  return latent;
}

// The frames made between the latent ones; of the places left, up to half for frames behind them
// and the others for frames before.
std::vector<int64_t> FrameScheme::observed_around(const std::vector<int64_t>& latent,
                                                  int64_t places) const {
  std::vector<int64_t> before, between, behind;
  for (const int64_t frame : made_frames()) {
    (frame < latent.front() ? before : frame < latent.back() ? between : behind).push_back(frame);
  }
  const int64_t left = places - static_cast<int64_t>(between.size());
  behind.resize(std::min(behind.size(), static_cast<size_t>(left / 2)));
  std::vector<int64_t> observed = last_of(before, left - static_cast<int64_t>(behind.size()));
  observed.insert(observed.end(), between.begin(), between.end());
  observed.insert(observed.end(), behind.begin(), behind.end());
  return observed;
}

SchemeStage FrameScheme::stage_of_hierarchy() {
  const int64_t places = options_.window - options_.step;
  if (level_ == 1) {
    level_ = 2;
    const int64_t first = std::find(made_.begin(), made_.end(), false) - made_.begin();
    int64_t last = frames_ - 1;
    while (made_[static_cast<size_t>(last)]) --last;
    SchemeStage stage;
    for (const int64_t frame : spread(first, last, std::min(options_.step, last - first + 1))) {
      if (!made_[static_cast<size_t>(frame)]) stage.latent.push_back(frame);
    }
    const auto count = static_cast<int64_t>(references_.size());
    for (const int64_t i : spread(0, count - 1, std::min(places, count))) {
      stage.observed.push_back(references_[static_cast<size_t>(i)]);
    }
    reached_ = first;
    return stage;
  }
  for (int64_t step = options_.step;;) {
    const std::vector<int64_t> latent = latents_of_level(step);
    if (latent.empty()) {  // this level is complete
      ++level_;
      reached_ = std::find(made_.begin(), made_.end(), false) - made_.begin() - 1;
      step = options_.step;
      continue;
    }
    const int64_t within = latent.back() - latent.front() + 1 - static_cast<int64_t>(latent.size());
    int64_t between = 0;
    for (int64_t frame = latent.front(); frame < latent.back(); ++frame) {
      between += made_[static_cast<size_t>(frame)] ? 1 : 0;
    }
    LF_CHECK(between <= within);
    // Keeps at least two places for frames before and behind, by making fewer frames if need be.
    if (options_.window - step - between < 2 && step > 1) {
      --step;
      continue;
    }
    reached_ = latent.back();
    return {observed_around(latent, options_.window - step), latent};
  }
}

// Farthest point first: each choice is the frame least like those chosen already.
std::vector<int64_t> FrameScheme::most_different(const SchemeStage& stage,
                                                 const FrameDistance& distance) const {
  const std::vector<int64_t> candidates = made_frames();
  std::vector<int64_t> chosen;
  const auto behind = std::lower_bound(candidates.begin(), candidates.end(), stage.latent.front());
  if (behind != candidates.begin()) chosen.push_back(*(behind - 1));
  if (options_.kind == SchemeKind::kHierarchy && behind != candidates.end()) {
    chosen.push_back(*behind);
  }
  std::vector<double> nearest(candidates.size(), std::numeric_limits<double>::infinity());
  const auto note = [&](int64_t frame) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      nearest[i] =
          std::min(nearest[i], candidates[i] == frame ? -1.0 : distance(candidates[i], frame));
    }
  };
  for (const int64_t frame : chosen) note(frame);
  while (chosen.size() < stage.observed.size()) {
    const auto farthest = std::max_element(nearest.begin(), nearest.end());
    chosen.push_back(candidates[static_cast<size_t>(farthest - nearest.begin())]);
    note(chosen.back());
  }
  chosen.resize(std::min(chosen.size(), stage.observed.size()));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<SchemeStage> scheme_stages(const SchemeOptions& options, int64_t frames,
                                       const std::vector<int64_t>& given) {
  FrameScheme scheme(options, frames, given);
  std::vector<SchemeStage> stages;
  while (!scheme.finished()) stages.push_back(scheme.next());
  return stages;
}

namespace {

// A list of frames in which runs of three and more are written as first-last.
std::string text_of(const std::vector<int64_t>& frames) {
  std::vector<std::string> words;
  for (size_t i = 0; i < frames.size();) {
    size_t end = i + 1;
    while (end < frames.size() && frames[end] == frames[end - 1] + 1) ++end;
    if (end - i >= 3) {
      words.push_back(str(frames[i], "-", frames[end - 1]));
      i = end;
    } else {
      words.push_back(str(frames[i++]));
    }
  }
  return words.empty() ? "nothing" : join(words, ", ");
}

}  // namespace

std::string describe(const SchemeStage& stage) {
  return text_of(stage.observed) + " -> " + text_of(stage.latent);
}

}  // namespace lf
