#include "train/coordinator.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/host.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/retention.h"
#include "checkpoint/run_claim.h"
#include "comm/activity.h"
#include "train/preview.h"

namespace lf {
namespace {

constexpr double kStragglerSeconds = 60;  // between two warnings of the same rank
constexpr double kOtherSeconds = 5;       // of different ones
constexpr double kSpike = 8;              // standard deviations that are worth a line
constexpr double kLongWait = 5;           // seconds from which the log says what is waited for
constexpr double kStatusSeconds = 2;      // status.json is never older while steps are made

// What to set where a run takes too large steps.
const char* smaller_steps(const Config& config) {
  return config.train().optimizer().clip_norm() > 0
             ? "train.optimizer.lr or train.optimizer.clip_norm"
             : "train.optimizer.lr, set train.optimizer.clip_norm (0 clips nothing)";
}

}  // namespace

int64_t newest_life(const std::string& run_folder) {
  const std::vector<LifeRecord> lives = read_lives(real_file_system(), run_folder);
  return lives.empty() ? 0 : lives.back().life();
}

Coordinator::Coordinator(World& world, const Config& config, const std::string& run_folder,
                         int64_t images, int64_t end)
    : world_(world),
      config_(config),
      folder_(run_folder),
      end_(end),
      reported_(Clock::now()),
      saved_(Clock::now()),
      reported_images_(images) {
  watch_for_stop(run_folder, config.train().deadline_margin_seconds());
  if (!world.is_root()) return;
  if (const int64_t warm_up = config.train().optimizer().warmup_images();
      warm_up > config.train().images()) {
    LF_WARN("train.optimizer.warmup_images is ", human_count(static_cast<uint64_t>(warm_up)),
            " and train.images ", human_count(static_cast<uint64_t>(config.train().images())),
            ": the run ends while its learning rate still rises to train.optimizer.lr");
  }
  life_ = newest_life(run_folder);
  log_ = std::make_unique<RunLog>(run_folder, images, end);
  divergence_ = DivergenceWatch(first_loss(run_folder));
  write_status("running", images);
}

Coordinator::~Coordinator() {
  if (log_ && std::uncaught_exceptions() > 0) write_status("failed", reported_images_);
}

static bool due(int64_t every, int64_t before, int64_t after) {
  return every > 0 && before / every != after / every;
}

Verdict Coordinator::looks(int64_t before, int64_t after) const {
  const bool last = after >= config_.train().images();
  Verdict verdict;
  verdict.validate = due(config_.train().validation_images(), before, after);
  const int64_t preview_images = config_.train().preview_images();
  verdict.preview = due(preview_images, before, after) || (preview_images > 0 && last);
  const int64_t evaluation_images = config_.evaluation().every_images();
  verdict.evaluate = due(evaluation_images, before, after) || (evaluation_images > 0 && last);
  return verdict;
}

Verdict Coordinator::left_over(int64_t images) {
  if (images == 0) return {};
  Verdict verdict = looks(images - config_.train().batch(), images);
  int64_t done = 0;
  if (log_) {
    done = int64_t{has_event(folder_, images, "validation")} +
           int64_t{real_file_system().exists(preview_path(folder_, images))} * 2 +
           int64_t{has_event(folder_, images, "evaluation")} * 4;
  }
  done = world_.max(done);
  verdict.validate = verdict.validate && (done & 1) == 0;
  verdict.preview = verdict.preview && (done & 2) == 0;
  // Ranks of their own find in the checkpoints what is left for them.
  verdict.evaluate = verdict.evaluate && (done & 4) == 0 && config_.evaluation().ranks() == 0;
  return verdict;
}

void Coordinator::waits_for(int64_t images, const std::string& what, const std::string& how_far,
                            Clock::time_point since) {
  note_progress();
  if (!log_) return;
  const double seconds = seconds_since(since);
  const std::string now =
      str(what, ", ", how_far.empty() ? "" : how_far + ", ", human_seconds(seconds));
  log_->progress(images, now);
  if (seconds < kLongWait || waited_for_ == what) return;
  waited_for_ = what;
  LF_INFO("image ", human_count(static_cast<uint64_t>(images)), ": ", now,
          "; asked to stop, training leaves it to the next start and saves a checkpoint");
}

bool Coordinator::stopped_meanwhile() {
  waited_for_.clear();
  const int64_t reason = world_.max(static_cast<int64_t>(stop_requested()));
  reason_ = std::max(reason_, static_cast<StopReason>(reason));
  undone_ = asked_to_stop();
  return undone_;
}

Verdict Coordinator::after_step(int64_t before, int64_t after, StepTally& tally,
                                const Watchdog* watchdog, const std::function<void()>& settle) {
  const bool log = due(config_.train().log_images(), before, after);
  if (log || after >= end_) settle();
  skipped_in_a_row_ = tally.skipped > 0 ? skipped_in_a_row_ + tally.skipped : 0;
  skipped_ += tally.skipped;
  tally.skipped = 0;
  if (skipped_in_a_row_ > config_.train().patience()) {
    fail(Code::kNotFinite, "loss or gradients were not finite in ", skipped_in_a_row_,
         " steps in a row, up to image ", after, "; no update was made in them. Lower ",
         smaller_steps(config_), ", or try train.precision=FP32");
  }
  // One number carries what every rank asks for: the strongest reason to stop, and rank 0's clock.
  const double interval = seconds_between_saves(config_.checkpoint(), save_seconds_);
  const bool clock_says_save = world_.is_root() && interval > 0 && seconds_since(saved_) > interval;
  const int64_t asked =
      world_.max(static_cast<int64_t>(stop_requested()) * 2 + (clock_says_save ? 1 : 0));
  reason_ = static_cast<StopReason>(asked / 2);

  Verdict verdict = looks(before, after);
  verdict.stop = reason_ != StopReason::kNone || after >= end_;
  verdict.save = asked % 2 == 1 || due(config_.checkpoint().every_images(), before, after);
  // The best by an evaluation can be kept only if there is a checkpoint of it.
  verdict.save = verdict.save || verdict.evaluate;
  if (verdict.save) saved_ = Clock::now();
  if (verdict.stop) settle();
  if (verdict.stop || log) report(after, tally, watchdog);
  if (!log_) return verdict;
  log_->progress(after);
  if (seconds_since(status_written_) > kStatusSeconds) write_status("running", after);
  return verdict;
}

void Coordinator::report(int64_t images, StepTally& tally, const Watchdog* watchdog) {
  const auto steps =
      static_cast<double>(tally.loss.steps);  // 0: all were skipped, no loss is known
  const double wall = std::max(1e-9, seconds_since(reported_));
  StepReport out;
  out.images = images;
  out.loss = world_.sum(tally.loss.total / steps) / world_.size();
  for (const auto& [name, sum] : tally.loss.terms) {
    out.terms.emplace_back(name, world_.sum(sum / steps) / world_.size());
  }
  out.data_wait = world_.max(tally.data_wait / wall);
  out.communication = world_.max(tally.communication / wall);
  out.checkpoint_stall = world_.max(tally.checkpoint_stall / wall);
  out.overhead = world_.max(1 - tally.model / wall);
  out.memory_bytes = static_cast<uint64_t>(world_.max(static_cast<int64_t>(peak_memory_bytes())));
  out.lr = tally.lr;
  out.gradient_norm = tally.gradient_norm;
  out.images_per_second = static_cast<double>(images - reported_images_) / wall;
  out.ranks = world_.size();
  out.skipped_steps = skipped_;
  tally = {};
  reported_ = Clock::now();
  reported_images_ = images;
  if (std::isfinite(out.loss)) loss_ = out.loss;
  images_per_second_ = out.images_per_second;
  if (!log_) return;
  watch_loss(images, out.loss);
  straggler_.clear();
  if (watchdog != nullptr) {
    if (const auto slow = watchdog->straggler(); slow && slow->ratio > 1.5) {
      straggler_ = str("rank ", slow->rank, " takes ", std::round(slow->ratio * 100) / 100,
                       " times the median");
      const bool same = slow->rank == straggler_rank_;
      if (seconds_since(straggler_told_) > (same ? kStragglerSeconds : kOtherSeconds)) {
        LF_WARN("straggler: ", straggler_, " over its own part of a step");
        straggler_told_ = Clock::now();
        straggler_rank_ = slow->rank;
      }
    }
  }
  out.straggler = straggler_;
  out.diverged = divergence_.diverged();
  log_->step(out);
}

void Coordinator::watch_loss(int64_t images, double loss) {
  if (const double height = spikes_.add(loss); height > kSpike) {
    LF_WARN("loss spike: ", loss, " at image ", images, ", ", std::round(height),
            " standard deviations above the losses before; if it does not come back, lower ",
            smaller_steps(config_));
  }
  using News = DivergenceWatch::News;
  const News news = divergence_.add(loss);
  if (news == News::kDiverged) {
    diverged_at_ = images;
    LF_WARN("the run has diverged ", divergence(), " (", DivergenceWatch::kReports,
            " logged losses in a row are above ", DivergenceWatch::kFactor,
            " times the first, or not finite); stop it and start another with a lower "
            "train.optimizer.lr, or with train.optimizer.clip_norm");
  } else if (news == News::kRecovered) {
    LF_WARN("the run has recovered at image ", images, ": loss ", loss, ", the first was ",
            divergence_.first());
  }
}

std::string Coordinator::divergence() const {
  if (!divergence_.diverged()) return "";
  return str("since image ", diverged_at_, ": the last finite loss is ", loss_, ", the first was ",
             divergence_.first());
}

void Coordinator::event(int64_t images, const std::string& name,
                        const std::vector<std::pair<std::string, double>>& values) {
  if (log_) log_->event(images, name, values);
}

void Coordinator::preview(int64_t images, const std::string& name, const std::string& png,
                          int height, int width) {
  if (log_) log_->preview(images, name, png, height, width);
}

void Coordinator::results(const EvaluationRecord& record) {
  if (log_) log_->results(record);
}

void Coordinator::write_status(const std::string& state, int64_t images) {
  status_written_ = Clock::now();
  const auto left = static_cast<double>(std::max<int64_t>(0, end_ - images));
  Json json;
  json.object([&] {
    json.field("name", config_.name())
        .field("state", state)
        .field("images", images)
        .field("total_images", config_.train().images());
    json.field("loss", loss_).field("images_per_second", images_per_second_);
    json.field("eta_seconds", images_per_second_ > 0 ? left / images_per_second_ : 0.0);
    json.field("checkpoint", checkpoint_).field("skipped_steps", skipped_);
    json.field("ranks", world_.size()).field("host", host_name()).field("pid", ::getpid());
    json.field("diverged", divergence());
    json.field("straggler", straggler_).field("updated", unix_now());
    json.field("reason", reason_ == StopReason::kNone ? "" : name_of(reason_));
  });
  // A full disk must not end a run that can still train; the checkpoint will say so loudly.
  try {
    // Once a newer start has taken the run over, status.json is its own.
    if (newest_life(folder_) > life_) return;
    publish_file(real_file_system(), folder_ + "/status.json", json.text() + "\n");
  } catch (const Error& error) {
    LF_WARN("status.json: ", error.what());
  }
}

void Coordinator::killed(int64_t images, const std::string& checkpoint) {
  checkpoint_ = checkpoint;
  reason_ = StopReason::kSignal;
  write_status("interrupted", images);
}

int Coordinator::end(int64_t images, const std::string& checkpoint, StopReason broken_off) {
  checkpoint_ = checkpoint;
  if (broken_off != StopReason::kNone) reason_ = broken_off;
  const bool finished =
      images >= config_.train().images() && broken_off == StopReason::kNone && !undone_;
  const bool restart =
      !finished && (reason_ == StopReason::kSignal || reason_ == StopReason::kDeadline);
  if (log_) {
    log_->finish(images);
    if (divergence_.diverged()) LF_WARN("the run ends diverged ", divergence());
    write_status(finished                           ? "finished"
                 : restart                          ? "interrupted"
                 : reason_ == StopReason::kStopFile ? "stopped"
                                                    : "slice",
                 images);
    if (restart) {
      LF_INFO("stopped by ", name_of(reason_), " at image ", images,
              " with a checkpoint; the same command resumes from here");
    } else if (reason_ == StopReason::kStopFile) {
      LF_INFO("stopped by ", folder_, "/STOP at image ", images,
              " with a checkpoint; remove that file, and the same command resumes from here");
    }
  }
  return restart ? static_cast<int>(Code::kInterrupted) : 0;
}

}  // namespace lf
