// How many images each arm of a sweep learns from: equally many, or what equal arithmetic or time
// allows, of the sweep's number or of as many as fit into a budget.
#pragma once

#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "sweep/sweep.h"
#include "sweep/workshop.h"

namespace lf {

inline constexpr double kFixedSeconds = 60;  // of a sweep, for its stores

// Sets each arm's images and returns its share of the reference's; 0 where that was not measured,
// as without `may_time` no step is timed.
std::vector<double> find_images(SweepPlan& plan, const SweepCall& call,
                                const std::vector<size_t>& asked, const Workshop& workshop,
                                bool may_time);

// Throws Code::kUsage, with what enough would take, if an arm would make too few steps.
void refuse_if_short(const SweepPlan& plan, const SweepCall& call, const std::vector<size_t>& asked,
                     const Workshop& workshop, const std::vector<double>& shares);

// Of a short sweep what is trained first learns from no more than the arms do.
void shorten_firsts(SweepPlan& plan, const SweepCall& call);

// Of one run; 0 where the time of its steps is not known.
double run_seconds(const SweepPlan& plan, const ArmPlan& arm, double step_seconds, double steps);

// What `find` finds, or nothing where a forecast has no time left for it.
template <typename Find>
auto unless_late(const Find& find) -> decltype(find()) {
  try {
    return find();
  } catch (const Error& error) {
    if (error.code() != Code::kInterrupted || stop_requested() != StopReason::kNone) throw;
    return {};
  }
}

}  // namespace lf
