// The options, the text and the JSON of an estimate of a run (train/estimate.h), as `train
// --dry-run` and `plan` print it.
#pragma once

#include <string>

#include "base/json.h"
#include "launch/options/arguments.h"
#include "launch/options/option.h"
#include "train/estimate.h"

namespace lf {

inline constexpr Option kRanksOption = {"--ranks",
                                        integer(1, 1 << 20),
                                        "ranks for which the memory of each is estimated",
                                        {.fallback = "1"}};
inline constexpr Option kNoMemoryOption = {
    "--no-memory", kNoValue,
    "leave out memory and arithmetic, which some steps on noise measure: seconds to minutes"};

// By --ranks and --no-memory.
RunEstimate estimate_of(const Arguments& arguments, const Config& config);

void add_estimate(Json& json, const RunEstimate& estimate);  // fields of an open object
std::string estimate_text(const RunEstimate& estimate, const Config& config);

}  // namespace lf
