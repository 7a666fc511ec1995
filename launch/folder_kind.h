// The modes of commands that take a folder of any kind: stores on one side, runs and their
// checkpoints on the other.
#pragma once

#include <string>

#include "launch/options/arguments.h"

namespace lf {

inline constexpr char kForStores[] = "for stores";
inline constexpr char kForRuns[] = "for runs and checkpoints";

// kForRuns if the first argument is the folder of a run or of a checkpoint, else kForStores.
const char* kind_of_folder(const Arguments& arguments);

// "store", "run" or "checkpoint"; "": none of these.
std::string kind_of_our_folder(const std::string& folder);

bool is_checkpoint_folder(const std::string& folder);

}  // namespace lf
