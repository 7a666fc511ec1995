// The version of this program.
#pragma once

#include <string>

namespace lf {

std::string version_number();  // "0.1.0"
std::string commit();          // `git describe` when this was built
std::string version();         // "0.1.0 (1a2b3c4d5e)"

}  // namespace lf
