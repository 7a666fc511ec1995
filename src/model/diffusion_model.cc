#include "model/diffusion_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "diffusion/prediction.h"
#include "diffusion/variational.h"
#include "model/unet.h"
#include "model/unet3d.h"

namespace lf {
namespace {

// Streams of one clip's choices under Purpose::kDiffusionTime.
enum Choice : uint32_t { kUniformTime, kNormalTime, kWindow, kConditionDropout };

// Frames of such a recipe go beyond the range of pixels, all but the last.
bool carries_noise(const RecipeConfig& recipe) {
  if (recipe.has_noise() || recipe.blur().noise() > 0 || recipe.heat().noise() > 0) return true;
  const auto& parts = recipe.composite().operators();
  return std::any_of(parts.begin(), parts.end(), [](const OperatorConfig& part) {
    return part.has_noise() || part.blur().noise() > 0 || part.heat().noise() > 0;
  });
}

// The frames that the network sees at a time, and so the shape it is built for.
ClipShape window_shape(const ClipShape& shape, int64_t places) {
  ClipShape window = shape;
  window.frames = static_cast<int>(places);
  return window;
}

std::unique_ptr<Denoiser> make_network(const ModelConfig& config, const DenoiserShape& shape,
                                       const Scope& scope) {
  if (config.has_unet()) return make_unet(config.unet(), shape, scope);
  LF_CHECK(config.has_unet3d(), "not a diffusion network");
  return make_unet3d(config.unet3d(), shape, scope);
}

void check(const DiffusionConfig& config, const NoiseSchedule& schedule) {
  if (config.learned_variance() && schedule.steps() == 0) {
    fail(Code::kUsage,
         "model.diffusion.learned_variance is of the steps of a table, and the "
         "schedule has none; leave it out, or choose LINEAR, SCALED_LINEAR or COSINE");
  }
  if (config.sampler().guidance() != 1 && config.classes() == 0 && config.text().empty()) {
    fail(Code::kUsage, "model.diffusion.sampler.guidance is ", config.sampler().guidance(),
         ", and the model knows no classes or texts to be guided by; set model.diffusion.classes, "
         "or leave it 1");
  }
}

}  // namespace

// One row per clip, one column per place: the frames of its window, then its images.
struct DiffusionModel::Lesson {
  NoisyClips asked;     // all but the noisy frames
  at::Tensor frame_BT;  // int64, which of the batch's frames is in which place; undefined: all
  at::Tensor alpha, sigma, in, skip, out, image, noise;  // [B, T, 1, 1, 1]
  at::Tensor weight, share;                              // [B, T]: of the loss; frames' parts of it
  std::vector<int> steps;                                // of the table
};

DiffusionModel::DiffusionModel(const Config& config, const ClipShape& shape, at::Device device)
    : table_(config.train().seed(), device),
      config_(config.model().diffusion()),
      shape_(shape),
      device_(device),
      places_(window_frames(config_, shape.frames)),
      last_frame_only_(carries_noise(config.recipe())),
      schedule_(config_, shape.height) {
  check(config_, schedule_);
  sampling_levels(config_.sampler(), schedule_);  // refuses what cannot be sampled
  const auto& columns = config.loader().side();
  if (!config_.text().empty() &&
      std::find(columns.begin(), columns.end(), config_.text()) == columns.end()) {
    fail(Code::kUsage, "model.diffusion.text is '", config_.text(),
         "', a side column that is not read with the clips; name it in loader.side too");
  }
  const int64_t outputs = config_.learned_variance() ? 2 : 1;
  network_ =
      make_network(config.model(),
                   {window_shape(shape, places_), outputs * shape.channels, config_.classes(),
                    config_.text().empty() ? 0 : config_.text_width(), config.train().recompute()},
                   Scope(table_));
}

namespace {

// What a place of a window is trained with.
struct Place {
  int64_t index = 0;  // of its frame in the video
  FrameRole role{};
  NoiseLevel level;
  Preconditioning scaling;
  double share = 0;  // of the loss
};

// A number of every place, [rows, places] and as wide as frames.
template <typename Of>
at::Tensor flat(const std::vector<Place>& places, int64_t rows, at::Device device, const Of& of) {
  std::vector<float> values;
  values.reserve(places.size());
  for (const Place& place : places) values.push_back(static_cast<float>(of(place)));
  return at::tensor(values).reshape({rows, -1}).to(device);
}

template <typename Of>
at::Tensor wide(const std::vector<Place>& places, int64_t rows, at::Device device, const Of& of) {
  return flat(places, rows, device, of).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1);
}

at::Tensor roles_of(const std::vector<Place>& places, int64_t rows, at::Device device) {
  std::vector<uint8_t> roles;
  for (const Place& place : places) roles.push_back(static_cast<uint8_t>(place.role));
  return at::tensor(roles, at::kByte).reshape({rows, -1}).to(device);
}

at::Tensor indices_of(const std::vector<Place>& places, int64_t rows, at::Device device) {
  std::vector<int64_t> indices;
  for (const Place& place : places) indices.push_back(place.index);
  return at::tensor(indices, at::kLong).reshape({rows, -1}).to(device);
}

bool any_beside(const std::vector<Place>& places) {
  return std::any_of(places.begin(), places.end(), [](const Place& place) {
    return place.role == FrameRole::kAbsent || place.role == FrameRole::kImage;
  });
}

// A clip's keyed numbers, on the host: they decide what is done.
std::vector<float> numbers_of(const Clips& clips, int64_t clip, Choice choice, int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  const Stream stream{clips.seed, Purpose::kDiffusionTime,
                      static_cast<uint64_t>(clips.first_position + clip), choice, 0};
  (choice == kNormalTime ? normal : uniform)(stream, 0, numbers.size(), numbers.data());
  return numbers;
}

// The places of one clip with `images` beside it.
std::vector<Place> places_of(const DiffusionConfig& config, const NoiseSchedule& schedule,
                             int64_t frames, int64_t images, const Clips& clips, int64_t clip) {
  FrameWindow window = training_window(config, frames, numbers_of(clips, clip, kWindow, 1)[0]);
  const size_t in_video = window.index.size();
  window.index.insert(window.index.end(), static_cast<size_t>(images), frames - 1);
  window.role.insert(window.role.end(), static_cast<size_t>(images), FrameRole::kImage);
  const auto count = static_cast<int64_t>(window.index.size());
  const std::vector<float> uniforms = numbers_of(clips, clip, kUniformTime, count),
                           normals = numbers_of(clips, clip, kNormalTime, count);
  std::vector<Place> places;
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
    places.push_back(place);
  }
  return places;
}

}  // namespace

DiffusionModel::Lesson DiffusionModel::lesson_of(const Clips& clips) const {
  const int64_t rows = clips.size();
  const int64_t images = clips.images_BNHWC.defined() ? clips.images_BNHWC.size(1) : 0;
  std::vector<Place> all;
  std::vector<int64_t> frames;
  for (int64_t clip = 0; clip < rows; ++clip) {
    for (const Place& place : places_of(config_, schedule_, shape_.frames, images, clips, clip)) {
      all.push_back(place);
      if (place.role != FrameRole::kImage) {
        frames.push_back(clip * shape_.frames + std::max<int64_t>(0, place.index));
      }
    }
  }
  const auto numbers = [&](const auto& of) { return wide(all, rows, device_, of); };
  Lesson lesson;
  lesson.asked.signal_BT =
      flat(all, rows, device_, [&](const Place& place) { return schedule_.signal(place.level); });
  lesson.asked.index_BT = indices_of(all, rows, device_);
  if (config_.frames() != DiffusionConfig::AUTOREGRESSIVE) {  // all clips' are alike
    lesson.asked.index_BT = lesson.asked.index_BT.slice(0, 0, 1);
  }
  if (any_beside(all)) lesson.asked.role_BT = roles_of(all, rows, device_);
  if (places_ != shape_.frames) lesson.frame_BT = at::tensor(frames, at::kLong).to(device_);
  lesson.alpha = numbers(
      [](const Place& place) { return place.role == FrameRole::kAbsent ? 0 : place.level.alpha; });
  lesson.sigma = numbers([](const Place& place) { return place.level.sigma; });
  lesson.in = numbers([](const Place& place) { return place.scaling.in; });
  lesson.skip = numbers([](const Place& place) { return place.scaling.skip; });
  lesson.out = numbers([](const Place& place) { return place.scaling.out; });
  lesson.image = numbers([](const Place& place) { return place.scaling.image; });
  lesson.noise = numbers([](const Place& place) { return place.scaling.noise; });
  lesson.share = flat(all, rows, device_, [](const Place& place) { return place.share; });
  lesson.weight = flat(all, rows, device_, [&](const Place& place) {
    return place.share > 0 ? place.share * loss_weight(config_, place.level) : 0;
  });
  for (const Place& place : all) {
    lesson.steps.push_back(
        std::max(0, static_cast<int>(std::lround(place.level.time * schedule_.steps())) - 1));
  }
  return lesson;
}

// What the network says of z, in single precision.
at::Tensor DiffusionModel::ask(const NoisyClips& clips, const at::Tensor& z,
                               const at::Tensor& scale) const {
  NoisyClips asked = clips;
  asked.z_BTHWC = config_.prediction() == DiffusionConfig::PRECONDITIONED ? scale * z : z;
  return (*network_)(asked).to(at::kFloat);
}

// What the clips show; in training some clips go without.
Shown DiffusionModel::shown_of(const Clips& clips, bool training) const {
  Shown shown;
  if (config_.classes() > 0) shown.labels_B = clips.labels_B;
  for (const NamedTensor& column : clips.side) {
    if (column.name == config_.text()) shown.text_BE = column.tensor;
  }
  if (!training) return shown;
  std::vector<uint8_t> kept;
  for (int64_t clip = 0; clip < clips.size(); ++clip) {
    const float luck = numbers_of(clips, clip, kConditionDropout, 1)[0];
    kept.push_back(luck >= config_.condition_dropout() ? 1 : 0);
  }
  const at::Tensor keep = at::tensor(kept, at::kByte).to(device_) > 0;
  if (shown.labels_B.defined()) shown.labels_B = at::where(keep, shown.labels_B, -1);
  if (shown.text_BE.defined()) shown.text_BE = shown.text_BE * keep.unsqueeze(1);
  return shown;
}

Loss DiffusionModel::loss(const Clips& clips, size_t /*phase*/, bool training) {
  Lesson lesson = lesson_of(clips);
  at::Tensor x = clips.x_BTHWC;
  if (lesson.frame_BT.defined()) {
    x = x.flatten(0, 1).index_select(0, lesson.frame_BT).unflatten(0, {clips.size(), places_});
  }
  if (clips.images_BNHWC.defined()) x = at::cat({x, clips.images_BNHWC}, 1);
  const at::Tensor noise = keyed_normal(clips, Purpose::kDiffusionNoise, 0, x.sizes().slice(1));
  const at::Tensor z = lesson.alpha * x + lesson.sigma * noise;
  const Shown shown = shown_of(clips, training);
  lesson.asked.labels_B = shown.labels_B;
  lesson.asked.text_BE = shown.text_BE;
  if (training) lesson.asked.keys = &clips;
  const at::Tensor said = ask(lesson.asked, z, lesson.in);

  const at::Tensor target = lesson.image * x + lesson.noise * noise;
  const at::Tensor error = (said.slice(-1, 0, shape_.channels) - target).square().mean({2, 3, 4});
  const at::Tensor shares = lesson.share.sum(1);
  Loss out{((error * lesson.weight).sum(1) / shares).mean(), {}};
  out.terms.push_back({"denoising", out.total.detach()});
  if (shape_.frames > 1 && config_.frames() != DiffusionConfig::AUTOREGRESSIVE) {
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
  const VariationalSteps steps =
      variational_steps(schedule_, lesson.steps, lesson.alpha.sizes(), device_);
  return step_bits(steps, x, {image, (said.slice(-1, channels) + 1) / 2});
}

Estimate DiffusionModel::estimate(const at::Tensor& z_BTHWC, const FrameWindow& window,
                                  const std::vector<NoiseLevel>& levels, const Shown& shown) const {
  std::vector<Place> places;
  for (size_t i = 0; i < levels.size(); ++i) {
    places.push_back({window.index[i], window.role[i], levels[i],
                      preconditioning(config_.prediction(), levels[i], config_.sigma_data()), 0});
  }
  const auto numbers = [&](const auto& of) { return wide(places, 1, device_, of); };
  NoisyClips asked;
  asked.signal_BT = flat(places, 1, device_, [&](const Place& place) {
                      return schedule_.signal(place.level);
                    }).expand({z_BTHWC.size(0), -1});
  asked.index_BT = indices_of(places, 1, device_);
  if (any_beside(places)) asked.role_BT = roles_of(places, 1, device_);
  asked.labels_B = shown.labels_B;
  asked.text_BE = shown.text_BE;
  const at::Tensor said =
      ask(asked, z_BTHWC, numbers([](const Place& place) { return place.scaling.in; }));
  const int64_t channels = shape_.channels;
  const at::Tensor skip = numbers([](const Place&place) { return place.scaling.skip; }),
                   out = numbers([](const Place&place) { return place.scaling.out; });
  Estimate estimate{skip * z_BTHWC + out * said.slice(-1, 0, channels), {}};
  if (config_.learned_variance()) estimate.variance = (said.slice(-1, channels) + 1) / 2;
  return estimate;
}

}  // namespace lf
