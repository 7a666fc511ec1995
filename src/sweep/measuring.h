// What is measured of a trained run, by `lastframe evaluate` and by what training itself has
// logged.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sweep/workshop.h"

namespace lf {

using Curve = std::vector<std::pair<int64_t, double>>;  // images, value

// Options by which a training of so many images measures on its way.
void set_curve(Config& config, const SweepPlan& plan, const Workshop& workshop,
               const std::string& held_out);

// The values at the end of a run that is trained.
std::map<std::string, double> measure(const SweepPlan& plan, const Workshop& workshop,
                                      const ArmPlan& arm, int seed, const std::string& run,
                                      const std::string& log);

// What metrics.jsonl of the run says of the measures with a curve.
std::map<std::string, Curve> curves_of(const SweepPlan& plan, FileSystem& files,
                                       const std::string& run);

// The hash of each measure's extractor, a file or what was trained first.
std::map<std::string, std::string> extractor_hashes(const SweepPlan& plan,
                                                    const Workshop& workshop);

// Clips of a run as an array: reconstructions of held-out ones, or samples.
void make_pictures(const SweepPlan& plan, const Workshop& workshop, const ArmPlan& arm,
                   const std::string& run, const std::string& array, const std::string& log);

}  // namespace lf
