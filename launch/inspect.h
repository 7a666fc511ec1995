// The parts of `lastframe inspect`, by what the folder is.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "checkpoint/retention.h"
#include "launch/options/arguments.h"
#include "record.pb.h"

namespace lf {

void inspect_store(const std::string& folder, const Arguments& arguments);
void inspect_run_or_checkpoint(const std::string& folder, bool as_json);

// What a run is and how far it has come, as its folder tells it: "model", "store", "recipe",
// "progress", and the last values of "loss", "validation" and evaluations, each with its text.
// What the folder does not tell is left out.
std::vector<std::pair<std::string, std::string>> summary_of_run(
    FileSystem& files, const std::string& run_folder, const std::vector<Candidate>& checkpoints);

}  // namespace lf
