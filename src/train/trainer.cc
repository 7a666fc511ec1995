#include "train/trainer.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop.h"
#include "eval/evaluate.h"
#include "model/autocast.h"
#include "run/clips.h"
#include "run/run.h"
#include "train/preview.h"
#include "train/saver.h"

namespace lf {
int Trainer::run() {
  const Watchdog::Phase training("train");
  if (world_.is_root() && device_.is_cpu()) appoint_heir();
  bool stop = look(coordinator_->left_over(images_));
  if (world_.is_root() && !numbers_.empty()) saver_->add_numbers(saver_->newest(), numbers_);
  while (images_ < end_ && !stop) {
    const int64_t before = images_;
    step();
    const Verdict verdict = coordinator_->after_step(before, images_, tally_, watchdog_.get(),
                                                     [this] { step_->settle(tally_); });
    saver_->poll();
    coordinator_->note_saved(saver_->newest(), saver_->seconds());
    follow_evaluators();
    if (report_) report_->after_step();
    stop = look(verdict) || verdict.stop;
    if (verdict.save || stop) save(verdict.evaluate);
  }
  {
    const Watchdog::Phase phase("last checkpoint", 3600);
    saver_->finish();
  }
  follow_evaluators();
  const Watchdog::Phase phase("last evaluation");
  const StopReason broken_off = evaluators_ ? evaluators_->wait() : StopReason::kNone;
  const int status = coordinator_->end(images_, saver_->newest(), broken_off);
  if (evaluators_ && world_.is_root()) evaluators_->end(status);
  if (report_) report_->at_end();
  return status;
}

// What is due between two steps. Returns whether the ranks were asked to stop before or meanwhile:
// it is then abandoned, so that the checkpoint comes at once, and left to the next start.
bool Trainer::look(const Verdict& verdict) {
  if (!verdict.validate && !verdict.evaluate && !verdict.preview) return false;
  if (heir_) heir_->unsettle();
  const bool asked = coordinator_->asked_to_stop();
  if (verdict.validate && !asked) validate();
  if (verdict.evaluate) evaluate();
  if (verdict.preview && !asked) show_preview();
  if (heir_) heir_->settle(images_);
  return coordinator_->stopped_meanwhile();
}

void Trainer::appoint_heir() {
  heir_ = std::make_unique<Heir>(job_.run_folder, [this](int64_t images) {
    coordinator_->killed(images, saver_->save_alone(images, step_->state()));
  });
  step_->before_change([this] { heir_->unsettle(); });
  heir_->settle(images_);
}

void Trainer::step() {
  watchdog_->begin_step(images_ / config_.train().batch());
  const Clips clips = next_clips();
  numbers_.clear();
  step_->run(clips, images_, tally_);
  images_ += config_.train().batch();
  if (heir_) heir_->settle(images_);
}

Clips Trainer::next_clips() {
  const auto waited = [&] {
    return loader_->counts().wait_seconds +
           (image_loader_ ? image_loader_->counts().wait_seconds : 0);
  };
  const double before = waited();
  // Copied while the step before still runs.
  const WorkQueue::Turn turn(copies_, WorkQueue::Begin::kAtOnce);
  Clips clips =
      clips_from_batch(loader_->next(), config_.train().seed(), device_, device_frames_.get());
  if (image_loader_) {
    const Clips others = clips_from_batch(image_loader_->next(), config_.train().seed(), device_);
    clips.images_BNHWC = others.x_BTHWC.select(1, -1).unflatten(0, {clips.size(), -1});
  }
  tally_.data_wait += waited() - before;
  return clips;
}

// The loss without dropout, under the averaged weights, on clips and keys that never change: curves
// of different runs and world sizes compare.
void Trainer::validate() {
  const Watchdog::Phase phase("validation", 3600);
  const at::NoGradGuard no_grad;
  const Ema::Swap averaged(step_->ema());
  constexpr uint64_t kValidationSeed = 0x5eed;
  const auto batch = static_cast<uint64_t>(config_.train().batch());
  Loader loader(stores_.validation, in_order(config_.loader()),
                {kValidationSeed, world_.rank(), world_.size(), batch});
  const int64_t batches =
      std::max<int64_t>(1, config_.train().validation_clips() / static_cast<int64_t>(batch));
  const Clock::time_point begin = Clock::now();
  double sum = 0;
  int64_t done = 0;
  for (; done < batches && stop_requested() == StopReason::kNone; ++done) {
    const Clips clips = clips_from_batch(loader.next(), kValidationSeed, device_);
    const Autocast autocast(config_.train().precision(), device_.type());
    sum += step_->model().loss(clips, 0, false).total.item<double>();
    coordinator_->waits_for(images_, "validating", str("batch ", done + 1, " of ", batches), begin);
  }
  if (world_.max(static_cast<int64_t>(done < batches)) != 0) {  // by all, or by none
    if (world_.is_root()) LF_INFO("image ", images_, ": the validation was broken off");
    return;
  }
  const double loss = world_.sum(sum / static_cast<double>(batches)) / world_.size();
  NamedNumber& number = numbers_.emplace_back();
  number.set_name("validation_loss");
  number.set_value(loss);
  coordinator_->event(
      images_, "validation",
      {{"loss", loss}, {"clips", static_cast<double>(batches) * static_cast<double>(batch)}});
}

// Samples or reconstructions under the averaged weights, by the metrics that were asked for.
void Trainer::evaluate() {
  const Watchdog::Phase phase("evaluation", 24 * 3600);
  if (evaluators_) {  // they take it up from the checkpoint; at most one is waited for
    evaluators_->wait();
    return;
  }
  const Ema::Swap averaged(step_->ema());
  EvaluationSubject subject;
  subject.model = &step_->model();
  subject.device = device_;
  subject.stores = stores_;
  subject.run_folder = job_.run_folder;
  subject.images = images_;
  subject.weights = step_->ema().enabled() ? "ema" : "model";
  subject.arithmetic = arithmetic_key(config_.train(), device_);
  try {
    const std::vector<Result> results = evaluate_model(world_, config_.evaluation(), subject);
    if (!world_.is_root()) return;
    const EvaluationRecord record = record_of(results, images_);
    publish_record(record, job_.run_folder);
    coordinator_->results(record);
    if (report_) report_->after_news();
    numbers_.insert(numbers_.end(), record.number().begin(), record.number().end());
  } catch (const Error& error) {  // all ranks throw it together; the checkpoint comes first
    if (error.code() != Code::kInterrupted) throw;
    if (world_.is_root()) LF_INFO("image ", images_, ": the evaluation was broken off");
  }
}

// What ranks of their own have found, on rank 0.
void Trainer::publish(const std::string& checkpoint, const EvaluationRecord& record) {
  publish_record(record, job_.run_folder);
  coordinator_->results(record);
  if (report_) report_->after_news();
  saver_->add_numbers(checkpoint, {record.number().begin(), record.number().end()});
}

void Trainer::follow_evaluators() {
  if (!evaluators_ || !world_.is_root()) return;
  evaluators_->submit(saver_->take_awaiting());
  evaluators_->poll();
}

void Trainer::show_preview() {
  const Watchdog::Phase phase("preview", 3600);
  if (world_.is_root()) write_preview_files();
  if (report_) report_->after_news();
  world_.barrier();
}

void Trainer::write_preview_files() {
  const at::NoGradGuard no_grad;
  const Ema::Swap averaged(step_->ema());
  const Clock::time_point begin = Clock::now();
  int64_t steps = 0;
  const Interruptible between_steps([&] {
    coordinator_->waits_for(images_, "making the preview", str("step ", ++steps), begin);
    return false;
  });
  try {
    const Preview preview =
        make_preview(step_->model(), *stores_.training, config_.train().preview_clips(), device_);
    coordinator_->preview(images_, "preview", preview.grid_png, preview.height, preview.width);
    LF_INFO("wrote ", write_preview(preview, job_.run_folder, images_), " and its .apng");
  } catch (const Error& error) {
    if (error.code() == Code::kInterrupted) {
      LF_INFO("image ", images_, ": the preview was broken off");
    } else if (error.code() == Code::kStorage) {  // a picture is not worth a run
      LF_WARN("no preview at image ", images_, ": ", error.what());
    } else {
      throw;
    }
  }
}

void Trainer::save(bool to_be_evaluated) {
  const Watchdog::Phase phase("checkpoint", 3600);
  const Clock::time_point begin = Clock::now();
  step_->check_replicas(str("at image ", images_));
  std::vector<std::string> awaits;
  if (evaluators_ && to_be_evaluated) {
    awaits.assign(config_.evaluation().metrics().begin(), config_.evaluation().metrics().end());
  }
  saver_->begin(images_, step_->state(), numbers_, awaits);
  tally_.checkpoint_stall += seconds_since(begin);
}

}  // namespace lf
