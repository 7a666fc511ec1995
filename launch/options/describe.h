// A command's table of options as JSON, for programs: tests, completion, documents.
#pragma once

#include "base/json.h"
#include "launch/options/command.h"

namespace lf {

// Adds the fields "options", "one_of", "modes" and "example" to the open object.
void describe(const Command& command, Json& json);

}  // namespace lf
