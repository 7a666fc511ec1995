// Whether the options of a call fit together: which mode it is, whether each option has a meaning
// in it, and whether what it needs is given. An option that would do nothing is an error.
#pragma once

#include <string>
#include <vector>

#include "launch/options/arguments.h"

namespace lf {

// The alternatives of "--run|--fake".
std::vector<std::string> alternatives(const char* text);
bool is_option(const std::string& alternative);  // "--run", not a mode

// Of Command::one_of. "" if the command has no modes. Throws unless exactly one is given.
std::string mode_of(const Arguments& arguments);

// Throws Code::kUsage.
void check_call(const Arguments& arguments);

}  // namespace lf
