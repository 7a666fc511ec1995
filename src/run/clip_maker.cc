#include "run/clip_maker.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "model/autocast.h"
#include "run/clips.h"

namespace lf {
namespace {

constexpr int64_t kFramesAtOnce = 64;

// Whether all values are finite. In parts: a float copy of a long video in host memory would be
// four times the video.
bool copy_as_bytes(const at::Tensor& made_BTHWC, const at::Tensor& out_BTHWC) {
  const int64_t clips = made_BTHWC.size(0), frames = made_BTHWC.size(1);
  const int64_t clips_at_once = std::max<int64_t>(1, kFramesAtOnce / frames);
  for (int64_t clip = 0; clip < clips; clip += clips_at_once) {
    const at::Tensor some = made_BTHWC.slice(0, clip, clip + clips_at_once);
    const at::Tensor into = out_BTHWC.slice(0, clip, clip + clips_at_once);
    for (int64_t frame = 0; frame < frames; frame += kFramesAtOnce) {
      const at::Tensor part = some.slice(1, frame, frame + kFramesAtOnce);
      if (!at::isfinite(part).all().item<bool>()) return false;
      into.slice(1, frame, frame + kFramesAtOnce).copy_(bytes_of(part));
    }
  }
  return true;
}

}  // namespace

ClipMaker::ClipMaker(MakeClips make, ClipGroups groups)
    : make_(std::move(make)), how_(std::move(groups)) {}

at::Tensor ClipMaker::group(int64_t number) {
  const int64_t first = how_.groups.begin(number), count = how_.groups.length(number);
  return how_.kept
      .get(number, count,
           [&] {
             return TensorsByName{{"clips", make_group(first, count)}};
           })
      .at("clips");
}

void ClipMaker::announce_cost(World& world) const {
  constexpr int64_t kWorthATrial = 32;
  const int64_t missing = chunks_missing(world, how_.groups, how_.kept);
  // A few clips take the CPU nearly a whole batch's time for each.
  const int64_t most = how_.device.is_cpu() ? std::min<int64_t>(4, how_.batch) : how_.batch;
  const int64_t tried = std::min(most, missing / kWorthATrial);
  if (!world.is_root() || tried == 0) return;
  const at::NoGradGuard no_grad;
  const Clock::time_point begin = Clock::now();
  try {
    const Interruptible trial;
    const Autocast autocast(how_.precision, how_.device.type());
    bytes_of(make_(0, tried));  // waits for the device
  } catch (const Error& error) {
    if (error.code() != Code::kInterrupted) throw;
    return;  // the loop over the groups stops all ranks
  }
  const double each = seconds_since(begin) / static_cast<double>(tried);
  LF_INFO(how_.what, ": ", cost_text(world, how_.groups, missing, each), " (on ",
          workers_text(world), ", measured on ", tried, ")");
}

void ClipMaker::for_own_groups(World& world, const std::string& title,
                               const std::function<void(const at::Tensor& clips)>& take) {
  for_own_chunks(world, how_.groups, title, nullptr, [&](int64_t number) {
    const int64_t before = made_;
    take(group(number));
    return made_ > before;
  });
}

at::Tensor ClipMaker::make_group(int64_t first, int64_t count) {
  const at::NoGradGuard no_grad;
  const Clock::time_point begin = Clock::now();
  const Autocast autocast(how_.precision, how_.device.type());
  at::Tensor clips;
  for (int64_t from = first; from < first + count; from += how_.batch) {
    interruption_point();
    const int64_t n = std::min(how_.batch, first + count - from);
    const at::Tensor made = make_(from, n);
    if (!clips.defined()) {
      std::vector<int64_t> shape = made.sizes().vec();
      shape[0] = count;
      clips = at::empty(shape, at::kByte);
    }
    if (!copy_as_bytes(made, clips.slice(0, from - first, from - first + n))) {
      fail(Code::kNotFinite, how_.what, " ", from, " to ", from + n - 1,
           " are not finite; is it the checkpoint of a run that diverged?");
    }
  }
  made_ += count;
  seconds_ += seconds_since(begin);
  return clips;
}

}  // namespace lf
