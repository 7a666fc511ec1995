// Files and folders that a call is to write: whether the name fits the kind, and whether something
// is in the way. All of it before the work.
#pragma once

#include <string>

#include "launch/options/arguments.h"
#include "launch/options/option.h"

namespace lf {

// "" if a file of this name is of one of the kinds that are written, or of none that is known; else
// what was expected, "a name that ends in .npy".
std::string expected_output(const Option& option, const std::string& name);

// Throws Code::kUsage for a file where a folder is meant, a folder where a file is meant, a file
// that is there and whose name does not say that it is of the kind that is written, and for a
// folder that is not there, cannot be made or cannot be written to.
void check_output(const Arguments& arguments, const Option& option);

}  // namespace lf
