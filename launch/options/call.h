// Whether the options of a call fit together: which mode it is, whether each option has a meaning
// in it and for what it opens, and whether what it needs is given. An option that would do nothing
// is an error.
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

// Whether what the call opened has what options need of it, known once it is open.
struct Need {
  const char* needs;  // Terms::needs
  bool there;
  std::string instead;  // a clause for the message: "runs/a has none"
};
// Throws Code::kUsage for a given option whose need is not there. Those of all given options must
// be among `needs`.
void check_needs(const Arguments& arguments, const std::vector<Need>& needs);

}  // namespace lf
