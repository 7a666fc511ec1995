#include "train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "train/autocast.h"
#include "train/clips.h"
#include "train/preview.h"
#include "train/saver.h"

namespace lf {
int Trainer::run() {
  while (images_ < end_) {
    const int64_t before = images_;
    step();
    const Verdict verdict = coordinator_->after_step(before, images_, tally_, watchdog_.get());
    saver_->poll();
    coordinator_->note_saved(saver_->newest());
    if (verdict.validate) validate();
    if (verdict.preview) show_preview();
    if (verdict.save || verdict.leave) save();
    if (verdict.leave) break;
  }
  const Watchdog::Phase phase("last checkpoint", 3600);
  saver_->finish();
  return coordinator_->end(images_, saver_->newest());
}

void Trainer::step() {
  watchdog_->begin_step(images_ / config_.train().batch());
  const Clips clips = next_clips();

  numbers_.clear();
  bool moved = true;
  LossSum loss{1, 0, {}};
  for (size_t phase = 0; phase < optimizers_.size(); ++phase) {
    take_turn(phase);
    accumulate(clips, phase, loss);
    moved = update(phase) && moved;
  }
  if (moved) {
    ema_->update(images_, images_ + config_.train().batch());
    tally_.loss.add(loss);
  } else {
    ++tally_.skipped;
  }
  images_ += config_.train().batch();
}

Clips Trainer::next_clips() {
  const auto waited = [&] {
    return loader_->counts().wait_seconds +
           (image_loader_ ? image_loader_->counts().wait_seconds : 0);
  };
  const double before = waited();
  Clips clips = clips_from_batch(loader_->next(), config_.train().seed(), device_);
  if (image_loader_) {
    const Clips others = clips_from_batch(image_loader_->next(), config_.train().seed(), device_);
    clips.images_BNHWC = others.x_BTHWC.select(1, -1).unflatten(0, {clips.size(), -1});
  }
  tally_.data_wait += waited() - before;
  return clips;
}

// The other phases' weights take no gradient, so their buckets stay out of this backward.
void Trainer::take_turn(size_t phase) {
  if (optimizers_.size() == 1) return;
  for (size_t other = 0; other < optimizers_.size(); ++other) {
    optimizers_[other].enable(other == phase);
  }
}

// Forward and backward in micro-batches; the gradients travel with the last one.
void Trainer::accumulate(const Clips& clips, size_t phase, LossSum& sum) {
  const int64_t parts = config_.train().accumulation(), part = clips.size() / parts;
  const double exposed = syncs_[phase]->exposed_seconds();
  for (int64_t i = 0; i < parts; ++i) {
    Loss loss;
    {
      const Autocast autocast(config_.train().precision(), device_.type());
      loss = model_->loss(clips.slice(i * part, (i + 1) * part), phase, true);
    }
    syncs_[phase]->backward(loss.total / static_cast<double>(parts), i + 1 == parts);
    if (phase == 0) sum.total += loss.total.item<double>() / static_cast<double>(parts);
    for (const NamedTensor& term : loss.terms) {
      sum.terms[term.name] += term.tensor.item<double>() / static_cast<double>(parts);
    }
  }
  tally_.communication += syncs_[phase]->exposed_seconds() - exposed;
}

// The norm of the averaged gradients is the same number on every rank, so all skip or none.
bool Trainer::update(size_t phase) {
  const OptimizerConfig& config = config_.train().optimizer();
  const bool second = phase > 0 && config.discriminator_lr() > 0;
  const double lr = learning_rate(config, second ? config.discriminator_lr() : config.lr(), images_,
                                  config_.train().images());
  const at::Tensor norm = optimizers_[phase].gradient_norm();
  const double value = norm.item<double>();
  const bool finite = std::isfinite(value);
  if (finite) {
    optimizers_[phase].step(norm, lr);
  } else {
    LF_WARN("image ", images_, ": the ", optimizers_[phase].phase().name,
            "'s gradient is not finite; all ranks skip this update");
  }
  syncs_[phase]->zero_gradients();
  if (phase == 0) {
    tally_.gradient_norm = value;
    tally_.lr = lr;
  }
  return finite;
}

// The loss without dropout, under the averaged weights, on clips and keys that never change: curves
// of different runs and world sizes compare.
void Trainer::validate() {
  const Watchdog::Phase phase("validation", 3600);
  const at::NoGradGuard no_grad;
  const Ema::Swap averaged(*ema_);
  constexpr uint64_t kValidationSeed = 0x5eed;
  LoaderConfig in_order = config_.loader();
  in_order.set_shuffle(false);
  in_order.set_flip(0);
  const auto batch = static_cast<uint64_t>(config_.train().batch());
  Loader loader(validation_store_, in_order,
                {kValidationSeed, world_.rank(), world_.size(), batch});
  const int64_t batches =
      std::max<int64_t>(1, config_.train().validation_clips() / static_cast<int64_t>(batch));
  double sum = 0;
  for (int64_t i = 0; i < batches; ++i) {
    const Clips clips = clips_from_batch(loader.next(), kValidationSeed, device_);
    const Autocast autocast(config_.train().precision(), device_.type());
    sum += model_->loss(clips, 0, false).total.item<double>();
    watchdog_->progress();
  }
  const double loss = world_.sum(sum / static_cast<double>(batches)) / world_.size();
  NamedNumber& number = numbers_.emplace_back();
  number.set_name("validation_loss");
  number.set_value(loss);
  coordinator_->event(
      images_, "validation",
      {{"loss", loss}, {"clips", static_cast<double>(batches) * static_cast<double>(batch)}});
}

void Trainer::show_preview() {
  const Watchdog::Phase phase("preview", 3600);
  if (world_.is_root()) {
    const at::NoGradGuard no_grad;
    const Ema::Swap averaged(*ema_);
    const Preview preview =
        make_preview(*model_, *store_, config_.train().preview_clips(), device_);
    try {
      write_preview(preview, job_.run_folder, images_);
    } catch (const Error& error) {  // a picture is not worth a run
      if (error.code() != Code::kStorage) throw;
      LF_WARN("no preview at image ", images_, ": ", error.what());
    }
    coordinator_->preview(images_, "preview", preview.grid_png, preview.height, preview.width);
  }
  world_.barrier();
}

void Trainer::save() {
  const Watchdog::Phase phase("checkpoint", 3600);
  for (const auto& sync : syncs_) sync->check_replicas(str("at image ", images_));
  const auto begin = std::chrono::steady_clock::now();
  saver_->begin(images_, state(), numbers_);
  tally_.checkpoint_stall +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace lf
