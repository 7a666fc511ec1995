// The loss of a DiffusionModel: what each clip of a batch is trained to do, decided by its keys on
// the host, and how far the network is from it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "diffusion/prediction.h"
#include "diffusion/variational.h"
#include "model/denoisers/diffusion_model.h"
#include "model/denoisers/places.h"

namespace lf {

// One row per clip, one column per place: the frames of its window, then its images.
struct DiffusionModel::Lesson {
  NoisyClips asked;     // all but the noisy frames
  at::Tensor frame_BT;  // int64, which of the batch's frames is in which place; undefined: all
  at::Tensor alpha, sigma, in, skip, out, image, noise;  // [B, T, 1, 1, 1]
  at::Tensor weight, share;                              // [B, T]: of the loss; frames' parts of it
  VariationalSteps steps;                                // of the table; undefined for others

  // All of these, in one order.
  std::vector<at::Tensor*> parts() {
    return {&asked.signal_BT,
            &asked.index_BT,
            &asked.role_BT,
            &frame_BT,
            &alpha,
            &sigma,
            &in,
            &skip,
            &out,
            &image,
            &noise,
            &weight,
            &share,
            &steps.from_image,
            &steps.least,
            &steps.most,
            &steps.first};
  }
};

namespace {

// Streams of one clip's choices under Purpose::kDiffusionTime.
enum Choice : uint32_t { kUniformTime, kNormalTime, kWindow, kConditionDropout };

// A clip's keyed numbers, on the host: they decide what is done.
std::vector<float> numbers_of(const Clips& clips, int64_t clip, Choice choice, int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  const Stream stream{clips.seed, Purpose::kDiffusionTime,
                      static_cast<uint64_t>(clips.first_position + clip), choice, 0};
  (choice == kNormalTime ? normal : uniform)(stream, 0, numbers.size(), numbers.data());
  return numbers;
}

// A clip's keyed numbers that choose its window, as many as that takes.
Uniforms choices_of(const Clips& clips, int64_t clip) {
  const Stream stream{clips.seed, Purpose::kDiffusionTime,
                      static_cast<uint64_t>(clips.first_position + clip), kWindow, 0};
  return [stream, next = uint64_t{0}]() mutable {
    float number = 0;
    uniform(stream, next++, 1, &number);
    return static_cast<double>(number);
  };
}

// Adds the places of one clip with `images` beside it.
void add_places(const DiffusionConfig& config, const NoiseSchedule& schedule, int64_t frames,
                int64_t images, const Clips& clips, int64_t clip, Places& places) {
  FrameWindow window = training_window(config, frames, choices_of(clips, clip));
  const size_t in_video = window.index.size();
  window.index.insert(window.index.end(), static_cast<size_t>(images), frames - 1);
  window.role.insert(window.role.end(), static_cast<size_t>(images), FrameRole::kImage);
  const auto count = static_cast<int64_t>(window.index.size());
  const std::vector<float> uniforms = numbers_of(clips, clip, kUniformTime, count),
                           normals = numbers_of(clips, clip, kNormalTime, count);
  for (size_t i = 0; i < window.index.size(); ++i) {
    Place place{window.index[i], window.role[i], {}, {}, 0};
    if (place.role == FrameRole::kLatent || place.role == FrameRole::kImage) {
      // The frames of a video share a level, unless each is to have its own; an image has its own.
      const size_t own = i >= in_video || config.level_per_frame() ? i : 0;
      place.level = schedule.training_level(uniforms[own], normals[own]);
      const bool last = i < in_video && place.index == frames - 1;
      place.share = last ? config.last_frame_weight() : 1;
    }
    place.scaling = preconditioning(config.prediction(), place.level, config.sigma_data());
    places.add(place);
  }
}

// The last place of every clip is its last frame, which is made.
bool ends_with_last_frame(DiffusionConfig::Frames frames) {
  return frames == DiffusionConfig::JOINT || frames == DiffusionConfig::LAST ||
         frames == DiffusionConfig::PREDICT;
}

void check_labels(const Clips& clips, int64_t classes) {
  const int64_t largest = clips.size() == 0 ? -1 : label_range(clips)[1];
  if (largest < classes) return;
  fail(Code::kUsage, "there is a label ", largest, ", but model.diffusion.classes is ", classes,
       "; give one more than the largest label");
}

void check_width(const at::Tensor& text, const DiffusionConfig& config) {
  if (text.size(1) == config.text_width()) return;
  fail(Code::kUsage, "side column ", printable(config.text()), " has ", text.size(1),
       " numbers a clip, model.diffusion.text_width is ", config.text_width(), "; set it to that");
}

}  // namespace

DiffusionModel::Lesson DiffusionModel::lesson_of(const Clips& clips) const {
  const std::vector<at::Tensor> chosen = chosen_on_host(clips, [this](const Clips& keys) {
    Lesson lesson = lesson_on_host(keys);
    std::vector<at::Tensor> parts;
    for (const at::Tensor* part : lesson.parts()) parts.push_back(*part);
    return parts;
  });
  Lesson lesson;
  const std::vector<at::Tensor*> parts = lesson.parts();
  for (size_t i = 0; i < parts.size(); ++i) *parts[i] = chosen[i];
  return lesson;
}

DiffusionModel::Lesson DiffusionModel::lesson_on_host(const Clips& clips) const {
  if (config_.classes() > 0 && clips.labels_B.defined()) check_labels(clips, config_.classes());
  const int64_t rows = clips.size();
  const int64_t images = clips.images_BNHWC.defined() ? clips.images_BNHWC.size(1) : 0;
  Places places(rows, at::kCPU);
  for (int64_t clip = 0; clip < rows; ++clip) {
    add_places(config_, schedule_, shape_.frames, images, clips, clip, places);
  }
  const auto factors = [&](const auto& of) { return places.factors(of); };
  Lesson lesson;
  lesson.asked.signal_BT =
      places.numbers([&](const Place& place) { return schedule_.signal(place.level); });
  lesson.asked.index_BT = places.indices();
  // Some frames of a window may be absent, and clips' windows differ.
  const bool wander = config_.frames() == DiffusionConfig::AUTOREGRESSIVE ||
                      config_.frames() == DiffusionConfig::FLEXIBLE;
  if (!wander) lesson.asked.index_BT = lesson.asked.index_BT.slice(0, 0, 1);
  if (wander || images > 0 || marks_) lesson.asked.role_BT = places.roles();
  lesson.alpha = factors(
      [](const Place& place) { return place.role == FrameRole::kAbsent ? 0 : place.level.alpha; });
  lesson.sigma = factors([](const Place& place) { return place.level.sigma; });
  lesson.in = factors([](const Place& place) { return place.scaling.in; });
  lesson.skip = factors([](const Place& place) { return place.scaling.skip; });
  lesson.out = factors([](const Place& place) { return place.scaling.out; });
  lesson.image = factors([](const Place& place) { return place.scaling.image; });
  lesson.noise = factors([](const Place& place) { return place.scaling.noise; });
  lesson.share = places.numbers([](const Place& place) { return place.share; });
  lesson.weight = places.numbers([&](const Place& place) {
    return place.share > 0 ? place.share * loss_weight(config_, place.level) : 0;
  });
  std::vector<int64_t> frames;
  std::vector<int> steps;
  for (size_t i = 0; i < places.all().size(); ++i) {
    const Place& place = places.all()[i];
    const int64_t clip = static_cast<int64_t>(i) / (places_ + images);
    if (place.role != FrameRole::kImage) {
      frames.push_back(clip * shape_.frames + std::max<int64_t>(0, place.index));
    }
    steps.push_back(
        std::max(0, static_cast<int>(std::lround(place.level.time * schedule_.steps())) - 1));
  }
  if (places_ != shape_.frames || config_.frames() == DiffusionConfig::FLEXIBLE) {
    lesson.frame_BT = at::tensor(frames, at::kLong);
  }
  if (config_.learned_variance()) {
    lesson.steps = variational_steps(schedule_, steps, lesson.alpha.sizes(), at::kCPU);
  }
  return lesson;
}

// What is in the places of a lesson, without noise: pixels or latents.
at::Tensor DiffusionModel::diffused(const Clips& clips, const Lesson& lesson) const {
  at::Tensor x = latents_ ? latents_->encode(clips.x_BTHWC) : clips.x_BTHWC;
  if (lesson.frame_BT.defined()) {
    x = x.flatten(0, 1).index_select(0, lesson.frame_BT).unflatten(0, {clips.size(), places_});
  }
  if (!clips.images_BNHWC.defined()) return x;
  return at::cat({x, latents_ ? latents_->encode_images(clips.images_BNHWC) : clips.images_BNHWC},
                 1);
}

// What the clips show; in training some clips go without.
Shown DiffusionModel::shown_of(const Clips& clips, bool training) const {
  Shown shown;
  if (config_.classes() > 0 && clips.labels_B.defined()) {
    shown.labels_B = clips.labels_B;
  }
  for (const NamedTensor& column : clips.side) {
    if (column.name != config_.text()) continue;
    check_width(column.tensor, config_);
    shown.text_BE = column.tensor;
  }
  const bool any = shown.labels_B.defined() || shown.text_BE.defined();
  if (!training || !any || config_.condition_dropout() == 0) return shown;
  const at::Tensor keep = chosen_on_host(clips, [this](const Clips& keys) {
    std::vector<uint8_t> kept;
    for (int64_t clip = 0; clip < keys.size(); ++clip) {
      const float luck = numbers_of(keys, clip, kConditionDropout, 1)[0];
      kept.push_back(luck >= config_.condition_dropout() ? 1 : 0);
    }
    return std::vector<at::Tensor>{at::tensor(kept, at::kByte) > 0};
  })[0];
  if (shown.labels_B.defined()) shown.labels_B = shown.labels_B.masked_fill(keep.logical_not(), -1);
  if (shown.text_BE.defined()) shown.text_BE = shown.text_BE * keep.unsqueeze(1);
  return shown;
}

Loss DiffusionModel::loss(const Clips& clips, size_t /*phase*/, bool training) {
  if (latents_ && training) latents_->measure(clips.x_BTHWC);
  Lesson lesson = lesson_of(clips);
  const at::Tensor x = diffused(clips, lesson);
  const at::Tensor noise = keyed_normal(clips, Purpose::kDiffusionNoise, 0, x.sizes().slice(1));
  const at::Tensor z = lesson.alpha * x + lesson.sigma * noise;
  Shown shown = shown_of(clips, training);
  if (config_.upscale() > 1) {
    const at::Tensor small = smaller(x);
    shown.small_BTHWC = as_shown(
        small, config_.upscale_noise() > 0
                   ? keyed_normal(clips, Purpose::kDiffusionNoise, 1, small.sizes().slice(1))
                   : at::Tensor());
  }
  lesson.asked.labels_B = shown.labels_B;
  lesson.asked.text_BE = shown.text_BE;
  if (training) lesson.asked.keys = &clips;
  const at::Tensor said = ask(lesson.asked, z, lesson.in, shown.small_BTHWC);

  const at::Tensor target = lesson.image * x + lesson.noise * noise;
  const at::Tensor error = (said.slice(-1, 0, shape_.channels) - target).square().mean({2, 3, 4});
  const at::Tensor shares = lesson.share.sum(1);
  Loss out{((error * lesson.weight).sum(1) / shares).mean(), {}};
  out.terms.push_back({"denoising", out.total.detach()});
  if (shape_.frames > 1 && ends_with_last_frame(config_.frames())) {
    out.terms.push_back({"last_frame", error.select(1, places_ - 1).mean().detach()});
  }
  if (config_.learned_variance()) {
    const at::Tensor bits = learned_variance_bits(lesson, x, z, said).mean({2, 3, 4});
    const at::Tensor bound = ((bits * lesson.share).sum(1) / shares).mean() * schedule_.steps();
    out.terms.push_back({"bits", bound.detach()});
    out.total = out.total + bound / 1000;
  }
  return out;
}

// Only the variance learns from the bound: the estimate stands still.
at::Tensor DiffusionModel::learned_variance_bits(const Lesson& lesson, const at::Tensor& x,
                                                 const at::Tensor& z,
                                                 const at::Tensor& said) const {
  const int64_t channels = shape_.channels;
  const at::Tensor image = lesson.skip * z + lesson.out * said.slice(-1, 0, channels).detach();
  return step_bits(lesson.steps, x, {image, (said.slice(-1, channels) + 1) / 2});
}

}  // namespace lf
