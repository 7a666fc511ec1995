#include "sweep/images.h"

#include <algorithm>
#include <cmath>

#include "base/console.h"
#include "base/parallel.h"

namespace lf {
namespace {

constexpr double kAllElse = 1.1;  // of a run's time, its checkpoints and all else
// Seconds to measure one sample, by a small extractor or by Inception.
constexpr double kOwnSample = 0.01, kFileSample = 0.06;

// How many times the reference's images each arm sees; 0: what that takes was not measured.
std::vector<double> shares_of(const SweepPlan& plan, const Workshop& workshop, int jobs,
                              bool may_time) {
  std::vector<Sweep::Equal> equals;
  for (const ArmPlan& arm : plan.arms) equals.push_back(arm.equal);
  const auto needed = [&](size_t i, Sweep::Equal equal) {
    const bool any = std::find(equals.begin(), equals.end(), equal) != equals.end();
    return any && (i == plan.reference || equals[i] == equal);
  };
  std::vector<double> arithmetic(equals.size()), time(equals.size()), shares(equals.size(), 1);
  run_parallel(equals.size(), std::max(2, jobs), [&](uint64_t i) {
    if (!needed(i, Sweep::COMPUTE)) return;
    arithmetic[i] = unless_late([&] { return workshop.multiplications_of(plan.arms[i]); });
  });
  for (size_t i = 0; i < equals.size(); ++i) {
    const ArmPlan& arm = plan.arms[i];
    if (!needed(i, Sweep::TIME)) continue;
    time[i] = may_time ? workshop.step_seconds(arm, jobs) : workshop.known_step_seconds(arm, jobs);
    time[i] /= static_cast<double>(arm.batch);
  }
  for (size_t i = 0; i < equals.size(); ++i) {
    if (equals[i] != Sweep::COMPUTE && equals[i] != Sweep::TIME) continue;
    const std::vector<double>& cost = equals[i] == Sweep::COMPUTE ? arithmetic : time;
    shares[i] = i == plan.reference ? 1 : cost[i] > 0 ? cost[plan.reference] / cost[i] : 0;
  }
  return shares;
}

double judging_seconds(const SweepPlan& plan) {
  double seconds = 0;
  for (const MeasurePlan& measure : plan.measures) {
    const bool file = measure.by_features && measure.extractor.find("${") == std::string::npos &&
                      measure.extractor != "pixels";
    seconds = std::max(
        seconds, static_cast<double>(plan.sweep.samples()) * (file ? kFileSample : kOwnSample));
  }
  return seconds;
}

// Of a sweep of these arms whose reference makes so many steps. `step`: seconds, by arm.
double sweep_seconds(const SweepPlan& plan, const std::vector<size_t>& asked,
                     const std::vector<double>& step, const std::vector<double>& shares,
                     double images, int jobs, int most_seeds) {
  double seconds = 0;
  for (const size_t i : asked) {
    const ArmPlan& arm = plan.arms[i];
    const double steps = images * shares[i] / static_cast<double>(arm.batch);
    seconds += std::min(arm.seeds, most_seeds) * run_seconds(plan, arm, step[i], steps);
  }
  return kFixedSeconds + seconds / jobs;
}

std::vector<double> step_seconds_of(const SweepPlan& plan, const std::vector<size_t>& asked,
                                    const Workshop& workshop, int jobs) {
  std::vector<double> step(plan.arms.size());
  for (const size_t i : asked) {
    if (workshop.known_step_seconds(plan.arms[i], jobs) == 0)
      console_line("how long is a step of " + plan.arms[i].name + " here?");
    step[i] = workshop.step_seconds(plan.arms[i], jobs);
  }
  return step;
}

[[noreturn]] void refuse_short(const SweepPlan& plan, const std::vector<size_t>& asked,
                               size_t worst, const Workshop& workshop,
                               const std::vector<double>& shares, int jobs) {
  const ArmPlan& arm = plan.arms[worst];
  const double needed = static_cast<double>(plan.sweep.minimum_steps()) *
                        static_cast<double>(arm.batch) / shares[worst];
  const auto batch = static_cast<double>(plan.arms[plan.reference].batch);
  const auto images = static_cast<int64_t>(std::ceil(needed / batch) * batch);
  const std::vector<double> step = step_seconds_of(plan, asked, workshop, jobs);
  const auto takes = [&](const std::vector<size_t>& arms, int seeds) {
    return human_seconds(
        sweep_seconds(plan, arms, step, shares, static_cast<double>(images), jobs, seeds));
  };
  const std::vector<size_t> two(
      asked.begin(), asked.begin() + static_cast<int64_t>(std::min<size_t>(2, asked.size())));
  std::vector<std::string> names;
  for (const size_t i : two) names.push_back(plan.arms[i].name);
  fail(Code::kUsage, "arm ", arm.name, " would make ", arm.steps(), " steps, expected ",
       plan.sweep.minimum_steps(), " or more. Give --set sweep.images=", images,
       ", which here takes about ", takes(asked, plan.sweep.seeds()),
       ", or --budget of as much; with --set sweep.seeds=1 ", takes(asked, 1), ", with --only ",
       join(names, ","), " ", takes(two, plan.sweep.seeds()),
       ". --for takes it in pieces; --allow-short goes ahead, without a verdict");
}

}  // namespace

double run_seconds(const SweepPlan& plan, const ArmPlan& arm, double step_seconds, double steps) {
  return step_seconds > 0 ? kAllElse * (steps * step_seconds + judging_seconds(plan)) : 0;
}

std::vector<double> find_images(SweepPlan& plan, const SweepCall& call,
                                const std::vector<size_t>& asked, const Workshop& workshop,
                                bool may_time) {
  const std::vector<double> shares = shares_of(plan, workshop, call.jobs, may_time);
  double images = static_cast<double>(plan.sweep.images());
  if (call.budget_seconds > 0 && may_time) {
    const std::vector<double> step = step_seconds_of(plan, asked, workshop, call.jobs);
    const auto takes = [&](double n) {
      return sweep_seconds(plan, asked, step, shares, n, call.jobs, plan.sweep.seeds());
    };
    images = std::max(0.0, (call.budget_seconds - takes(0)) / (takes(1) - takes(0)));
  }
  const auto batch = static_cast<double>(plan.arms[plan.reference].batch);
  set_images(plan, static_cast<int64_t>(std::max(1.0, std::floor(images / batch)) * batch), shares);
  return shares;
}

void refuse_if_short(const SweepPlan& plan, const SweepCall& call, const std::vector<size_t>& asked,
                     const Workshop& workshop, const std::vector<double>& shares) {
  for (const size_t i : asked) {
    const bool few = plan.arms[i].steps() < plan.sweep.minimum_steps();
    if (few && !call.allow_short) refuse_short(plan, asked, i, workshop, shares, call.jobs);
  }
}

void shorten_firsts(SweepPlan& plan, const SweepCall& call) {
  if (!call.allow_short) return;
  for (FirstPlan& first : plan.firsts) {
    TrainConfig& train = *first.config.mutable_train();
    train.set_images(std::min(train.images(), plan.arms[plan.reference].images));
  }
}

}  // namespace lf
