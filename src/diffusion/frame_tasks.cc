#include "diffusion/frame_tasks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace lf {
namespace {

int64_t below(int64_t bound, const Uniforms& uniform) {
  return std::min(bound - 1, static_cast<int64_t>(uniform() * static_cast<double>(bound)));
}

}  // namespace

std::vector<int64_t> frame_group(int64_t frames, int64_t most, const Uniforms& uniform) {
  const auto length = static_cast<double>(frames);
  while (true) {
    const int64_t count = 1 + below(most, uniform);
    // 0.999: slightly above the widest spacing that fits, so that a single frame has a finite one.
    const double widest = length / (static_cast<double>(count) - 0.999);
    const double spacing = std::exp(uniform() * std::log(widest));
    const double room = length - spacing * static_cast<double>(count - 1);
    const double start = uniform() * room;
    std::vector<int64_t> group;
    for (int64_t i = 0; i < count; ++i)
      group.push_back(static_cast<int64_t>(std::floor(start + static_cast<double>(i) * spacing)));
    // The widest spacings reach beyond the video; such a draw is repeated.
    if (group.front() >= 0 && group.back() < frames) return group;
  }
}

FrameWindow grouped_task(int64_t frames, int64_t places, double observed, const Uniforms& uniform) {
  const int64_t most = std::min(places, frames);
  std::map<int64_t, FrameRole> task;
  for (const int64_t frame : frame_group(frames, most, uniform)) task[frame] = FrameRole::kLatent;
  while (static_cast<int64_t>(task.size()) < most) {
    std::vector<int64_t> fresh;
    for (const int64_t frame : frame_group(frames, most, uniform)) {
      if (task.count(frame) == 0) fresh.push_back(frame);
    }
    const FrameRole role = uniform() < observed ? FrameRole::kObserved : FrameRole::kLatent;
    if (task.size() + fresh.size() > static_cast<size_t>(places)) break;
    for (const int64_t frame : fresh) task[frame] = role;
  }
  FrameWindow window;
  for (const auto& [frame, role] : task) {
    window.index.push_back(frame);
    window.role.push_back(role);
  }
  window.index.resize(static_cast<size_t>(places), -1);
  window.role.resize(static_cast<size_t>(places), FrameRole::kAbsent);
  return window;
}

FrameWindow masked_task(int64_t frames, int64_t most, double unconditional,
                        const Uniforms& uniform) {
  FrameWindow window;
  window.index.resize(static_cast<size_t>(frames));
  std::iota(window.index.begin(), window.index.end(), 0);
  window.role.assign(static_cast<size_t>(frames), FrameRole::kLatent);
  if (uniform() < unconditional) return window;
  const int64_t observed = 1 + below(std::min(most, frames - 1), uniform);
  std::vector<int64_t> order = window.index;
  for (int64_t i = 0; i < observed; ++i) {
    const auto at = static_cast<size_t>(i);
    std::swap(order[at], order[static_cast<size_t>(i + below(frames - i, uniform))]);
    window.role[static_cast<size_t>(order[at])] = FrameRole::kObserved;
  }
  return window;
}

}  // namespace lf
