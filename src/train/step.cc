#include "train/step.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>

#include "base/error.h"
#include "base/log.h"
#include "eval/run_model.h"
#include "train/autocast.h"
#include "train/post_hoc.h"

namespace lf {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void append(TensorGroup& group, const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& named : tensors)
    group.tensors.push_back({named.name, named.tensor.detach()});
}

NamedTensors as_pairs(const std::vector<NamedTensor>& tensors) {
  NamedTensors out;
  for (const NamedTensor& named : tensors) out.emplace_back(named.name, named.tensor);
  return out;
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
  fail(Code::kUsage, "train.batch is ", batch, ", which ", ranks, " ranks times ", accumulation,
       " accumulation do not divide; ",
       allowed.empty() ? "change train.accumulation"
                       : "start with one of " + join(allowed, ", ") + " ranks",
       ", or change train.batch");
}

Step::Step(World& world, const Config& config, const ClipShape& shape, at::Device device,
           DeviceBackend* backend, const ModelMaker& make)
    : world_(world),
      config_(config),
      device_(device),
      group_(device.is_cpu() ? make_process_group(world, config.comm())
                             : make_process_group(world, config.comm(), backend, device.index())),
      model_(make(config, shape, device, sum_over_ranks(world, group_), open_export)) {
  for (const Phase& part : model_->phases()) {
    optimizers_.emplace_back(part, config.train().optimizer());
    syncs_.push_back(std::make_unique<GradientSync>(world, group_, as_pairs(part.weights),
                                                    GradientSyncOptions::from(config.comm())));
  }
  syncs_.front()->broadcast(as_pairs(model_->parameters().buffers()));
  ema_ = std::make_unique<Ema>(config.train().ema(), model_->parameters().weights());
  for (const double width : config.train().ema().tracked_widths()) {
    EmaConfig tracked;
    tracked.set_power_width(width);
    tracked_.emplace_back(tracked, model_->parameters().weights());
  }
}

Step::~Step() {
  syncs_.clear();
  if (std::uncaught_exceptions() > 0) return;
  try {
    end_process_group(group_);
  } catch (const std::exception& error) {
    LF_ERROR("while ending communication: ", error.what());
  }
}

void Step::run(const Clips& clips, int64_t images, StepTally& tally) {
  terms_.clear();
  std::vector<at::Tensor> norms;
  for (size_t phase = 0; phase < optimizers_.size(); ++phase) {
    take_turn(phase);
    accumulate(clips, phase, tally);
    norms.push_back(update(phase, images, tally));
  }
  // Here the host waits for the device, once a step.
  const Clock::time_point begin = Clock::now();
  std::vector<double> sizes;
  for (const at::Tensor& norm : norms) sizes.push_back(norm.item<double>());
  tally.model += seconds_since(begin);
  tally.gradient_norm = sizes.front();
  bool moved = true;
  for (size_t phase = 0; phase < sizes.size(); ++phase) {
    if (std::isfinite(sizes[phase])) continue;
    moved = false;
    LF_WARN("image ", images, ": the ", optimizers_[phase].phase().name,
            "'s gradient is not finite; all ranks skip this update");
  }
  if (!moved) {
    ++tally.skipped;
    return;
  }
  model_->after_update(config_.train().batch());
  const int64_t after = images + config_.train().batch();
  ema_->update(images, after);
  for (Ema& average : tracked_) average.update(images, after);
  tally.loss.add(read_losses());
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
    for (const NamedTensor& term : loss.terms) terms_.push_back({term.name, term.tensor});
  }
  tally.model += seconds_since(begin);
  tally.communication += syncs_[phase]->exposed_seconds() - exposed;
}

// The norm of the averaged gradients is the same number on every rank, so all skip or none.
at::Tensor Step::update(size_t phase, int64_t images, StepTally& tally) {
  const OptimizerConfig& config = config_.train().optimizer();
  const bool second = phase > 0 && config.discriminator_lr() > 0;
  const double lr = learning_rate(config, second ? config.discriminator_lr() : config.lr(), images,
                                  config_.train().images());
  const at::Tensor norm = optimizers_[phase].gradient_norm();
  optimizers_[phase].step(norm, lr);
  syncs_[phase]->zero_gradients();
  if (phase == 0) tally.lr = lr;
  return norm;
}

LossSum Step::read_losses() {
  const auto parts = static_cast<double>(config_.train().accumulation());
  LossSum sum{1, 0, {}};
  for (const Term& term : terms_) {
    (term.name.empty() ? sum.total : sum.terms[term.name]) += term.value.item<double>() / parts;
  }
  return sum;
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
  check_equal_over_ranks(world_, moment, as_pairs(model_->parameters().buffers()));
}

}  // namespace lf
