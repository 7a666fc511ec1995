// The two halves of `lastframe inspect`, by what the folder is.
#pragma once

#include <string>

#include "launch/options/arguments.h"

namespace lf {

void inspect_store(const std::string& folder, const Arguments& arguments);
void inspect_run_or_checkpoint(const std::string& folder, bool as_json);

}  // namespace lf
