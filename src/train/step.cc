#include "train/step.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/gpu/device.h"
#include "model/autocast.h"
#include "model/refills.h"
#include "run/exported_model.h"
#include "train/post_hoc.h"
#include "train/tuning.h"

namespace lf {
namespace {

void append(TensorGroup& group, const std::vector<NamedTensor>& tensors) {
  group.tensors.insert(group.tensors.end(), tensors.begin(), tensors.end());
}

// For what a model adds up over the ranks between the backward passes of a step, in one order with
// the gradients.
SumOverRanks sum_over_ranks(const World& world, const ProcessGroupPtr& group) {
  if (world.size() == 1) return {};
  return [group](at::Tensor& tensor) {
    std::vector<at::Tensor> tensors = {tensor};
    group->allreduce(tensors)->wait();
  };
}

}  // namespace

void check_batch(const Config& config, int ranks) {
  const int64_t batch = config.train().batch(), accumulation = config.train().accumulation();
  if (batch % (ranks * accumulation) == 0) return;
  std::vector<std::string> allowed;
  for (int64_t n = 1; n <= std::min<int64_t>(batch, 1024) && allowed.size() < 16; ++n) {
    if (batch % (n * accumulation) == 0) allowed.push_back(std::to_string(n));
  }
  fail(Code::kUsage, "train.batch is ", batch, ", expected a multiple of ", ranks,
       ranks == 1 ? " rank" : " ranks", " times train.accumulation ", accumulation, "; ",
       allowed.empty() ? "change train.accumulation"
                       : "start with one of " + join(allowed, ", ") + " ranks",
       ", or change train.batch");
}

Step::Step(World& world, const Config& config, const ClipShape& shape, at::Device device,
           const Accelerator& accelerator, const ModelMaker& make)
    : world_(world),
      config_(config),
      device_(device),
      accelerator_(accelerator),
      work_(device),
      group_(device.is_cpu()
                 ? make_process_group(world, config.comm())
                 : make_process_group(world, config.comm(), accelerator.backend, device.index())),
      model_(make(config, shape, device, sum_over_ranks(world, group_), open_export)) {
  // Backward adds gradients up on the queue that was current when their weights were taken up.
  const WorkQueue::Turn turn(work_);
  const ParameterTable& table = model_->parameters();
  check_tuning(config.train(), *model_);
  for (const Phase& part : model_->phases()) {
    optimizers_.emplace_back(trained_part(part), config.train().optimizer());
  }
  make_syncs();
  syncs_.front()->broadcast(table.buffers());
  syncs_.front()->broadcast(table.frozen());
  ema_ = std::make_unique<Ema>(config.train().ema(), table.trained());
  for (const double width : config.train().ema().tracked_widths()) {
    EmaConfig tracked;
    tracked.set_power_width(width);
    tracked_.emplace_back(tracked, table.trained());
  }
  unrecorded_ = why_unrecorded();
  if (config.train().graph() == StepGraph::ON && !unrecorded_.empty()) {
    fail(Code::kUsage, "train.graph is ON, and the step cannot be recorded because ", unrecorded_,
         "; leave it AUTO");
  }
}

void Step::make_syncs() {
  syncs_.clear();
  for (const Optimizer& optimizer : optimizers_) {
    syncs_.push_back(std::make_unique<GradientSync>(world_, group_, optimizer.phase().weights,
                                                    GradientSyncOptions::from(config_.comm())));
  }
}

Step::~Step() {
  recorded_.reset();
  syncs_.clear();
  if (std::uncaught_exceptions() > 0) return;
  try {
    end_process_group(group_);
  } catch (const std::exception& error) {
    LF_ERROR("while ending communication: ", error.what());
  }
}

std::string Step::why_unrecorded() const {
  const auto asked = config_.train().graph();
  if (device_.is_cpu()) return "it is computed on the CPU";
  if (asked == StepGraph::OFF) return "train.graph is OFF";
  const std::string of_model = model_->unrecordable();
  if (of_model.empty() && asked == StepGraph::AUTO) {
    return "recorded steps have not passed all their tests on a GPU yet (train.graph=ON records "
           "it)";
  }
  return of_model;
}

int Step::warm_up() const {
  // Memory, libraries' choices; with several ranks what c10d times in its first ten backwards.
  const int launched = world_.size() == 1 ? 3 : 11;
  return unrecorded_.empty() ? launched + 1 : launched;
}

void Step::run(const Clips& clips, int64_t images, StepTally& tally) {
  const WorkQueue::Turn turn(work_);
  for (const at::Tensor& tensor : {clips.x_BTHWC, clips.labels_B, clips.images_BNHWC}) {
    work_.keep(tensor);
  }
  for (const NamedTensor& column : clips.side) work_.keep(column.tensor);
  set_rates(images, tally);
  const int64_t ahead_of_recording = unrecorded_.empty() ? warm_up() - 1 - steps_ : 2;
  if (recorded_ == nullptr && ahead_of_recording <= 0) record();
  if (ahead_of_recording == 1) {
    refills_ = std::make_unique<Refills>(clips);
    queue(refills_->clips(), tally);
  } else if (recorded_ != nullptr) {
    const Clock::time_point begin = Clock::now();
    refills_->refill(clips);
    recorded_->replay();
    tally.model += seconds_since(begin);
  } else {
    queue(clips, tally);
  }
  ++steps_;
  remember(images);
  // One step ahead of the device at most, so that it never waits for the host.
  const size_t ahead = device_.is_cpu() ? 0 : 1;
  while (outcomes_.size() > ahead) settle_first(tally);
}

// What changes from step to step and is not a matter of the clips.
void Step::set_rates(int64_t images, StepTally& tally) {
  const OptimizerConfig& config = config_.train().optimizer();
  for (size_t phase = 0; phase < optimizers_.size(); ++phase) {
    const bool second = phase > 0 && config.discriminator_lr() > 0;
    const double lr = learning_rate(config, second ? config.discriminator_lr() : config.lr(),
                                    images, config_.train().images());
    optimizers_[phase].set_learning_rate(lr);
    if (phase == 0) tally.lr = lr;
  }
  const int64_t after = images + config_.train().batch();
  ema_->set_step(images, after);
  for (Ema& average : tracked_) average.set_step(images, after);
}

// All that a step is on the device.
void Step::queue(const Clips& clips, StepTally& tally) {
  terms_.clear();
  std::vector<at::Tensor> values;
  at::Tensor moved;
  for (size_t phase = 0; phase < optimizers_.size(); ++phase) {
    take_turn(phase);
    accumulate(clips, phase, tally);
    if (phase == 0 && before_change_) before_change_();
    const at::Tensor norm = update(phase);
    values.push_back(norm.to(at::kDouble));
    const at::Tensor finite = at::isfinite(norm).to(at::kFloat);
    moved = moved.defined() ? moved * finite : finite;
  }
  model_->after_update(config_.train().batch(), moved);
  ema_->update(moved);
  for (Ema& average : tracked_) average.update(moved);
  for (NamedTensor& term : terms_) {
    values.push_back(term.tensor.to(device_, at::kDouble).reshape({}));
    term.tensor.reset();
  }
  values_ = at::stack(values);
}

// Nothing runs: the replay that follows is the first to move anything.
void Step::record() {
  refills_->end_rehearsal();
  StepTally unused;
  try {
    recorded_ = accelerator_.device->record([&] { queue(refills_->clips(), unused); }, 0);
    if (world_.is_root()) LF_INFO("the training step is recorded and replayed as one graph");
    return;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    unrecorded_ = "recording it failed: " + printable(text.substr(0, text.find('\n')), 400);
  }
  if (config_.train().graph() == StepGraph::ON || world_.size() > 1) {
    fail(Code::kBug, "the training step could not be recorded (", unrecorded_,
         "); set train.graph=OFF");
  }
  LF_WARN("the training step runs operation by operation, because ", unrecorded_);
  refills_.reset();
  // They stand in the middle of a step that never was.
  if (optimizers_.size() > 1) {
    for (Optimizer& optimizer : optimizers_) optimizer.enable(true);
  }
  make_syncs();
}

// Queues the copy of the step's values to the host.
void Step::remember(int64_t images) {
  Outcome& outcome = outcomes_.emplace_back(Outcome{values_, nullptr, images});
  if (device_.is_cpu()) return;
  outcome.values =
      at::empty(values_.sizes(), at::TensorOptions().dtype(at::kDouble).pinned_memory(true));
  outcome.values.copy_(values_, /*non_blocking=*/true);
  outcome.ready = std::make_unique<c10::Event>(device_.type());
  outcome.ready->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

void Step::settle(StepTally& tally) {
  while (!outcomes_.empty()) settle_first(tally);
}

// Here the host waits for the device.
void Step::settle_first(StepTally& tally) {
  const Outcome outcome = std::move(outcomes_.front());
  outcomes_.pop_front();
  const Clock::time_point begin = Clock::now();
  if (outcome.ready) outcome.ready->synchronize();
  tally.model += seconds_since(begin);
  const double* number = outcome.values.const_data_ptr<double>();
  tally.gradient_norm = number[0];
  bool moved = true;
  for (const Optimizer& optimizer : optimizers_) {
    if (std::isfinite(*number++)) continue;
    moved = false;
    LF_WARN("image ", outcome.images, ": the ", optimizer.phase().name,
            "'s gradient is not finite; all ranks skip this update");
  }
  if (!moved) {
    ++tally.skipped;
    return;
  }
  const auto parts = static_cast<double>(config_.train().accumulation());
  LossSum sum{1, 0, {}};
  for (const NamedTensor& term : terms_) {
    (term.name.empty() ? sum.total : sum.terms[term.name]) += *number++ / parts;
  }
  tally.loss.add(sum);
}

// The other phases' weights take no gradient, so their buckets stay out of this backward.
void Step::take_turn(size_t phase) {
  if (optimizers_.size() == 1) return;
  for (size_t other = 0; other < optimizers_.size(); ++other) {
    optimizers_[other].enable(other == phase);
  }
}

// Forward and backward in micro-batches; the gradients travel with the last one.
void Step::accumulate(const Clips& clips, size_t phase, StepTally& tally) {
  const Clock::time_point begin = Clock::now();
  const double exposed = syncs_[phase]->exposed_seconds();
  const int64_t parts = config_.train().accumulation(), part = clips.size() / parts;
  for (int64_t i = 0; i < parts; ++i) {
    Loss loss;
    {
      const Autocast autocast(config_.train().precision(), device_.type());
      loss = model_->loss(clips.slice(i * part, (i + 1) * part), phase, true);
    }
    syncs_[phase]->backward(parts > 1 ? loss.total / static_cast<double>(parts) : loss.total,
                            i + 1 == parts);
    if (phase == 0) terms_.push_back({"", loss.total.detach()});
    terms_.insert(terms_.end(), loss.terms.begin(), loss.terms.end());
  }
  tally.model += seconds_since(begin);
  tally.communication += syncs_[phase]->exposed_seconds() - exposed;
}

// The norm of the averaged gradients is the same number on every rank, so all skip or none.
at::Tensor Step::update(size_t phase) {
  const at::Tensor norm = optimizers_[phase].gradient_norm();
  optimizers_[phase].step(norm);
  syncs_[phase]->zero_gradients();
  return norm;
}

std::vector<TensorGroup> Step::state() const {
  std::vector<TensorGroup> groups(1);
  groups[0].kind = "model";
  append(groups[0], model_->parameters().weights());
  append(groups[0], model_->parameters().buffers());
  if (ema_->enabled()) append(groups.emplace_back(TensorGroup{"ema", {}}), ema_->tensors());
  for (size_t i = 0; i < tracked_.size(); ++i) {
    append(groups.emplace_back(TensorGroup{tracked_kind(i), {}}), tracked_[i].tensors());
  }
  TensorGroup& moments = groups.emplace_back(TensorGroup{"optimizer", {}});
  for (const Optimizer& optimizer : optimizers_) append(moments, optimizer.state());
  return groups;
}

void Step::check_replicas(const std::string& moment) {
  for (const auto& sync : syncs_) sync->check_replicas(moment);
  check_equal_over_ranks(world_, moment, model_->parameters().buffers());
  check_equal_over_ranks(world_, moment, model_->parameters().frozen());
}

}  // namespace lf
