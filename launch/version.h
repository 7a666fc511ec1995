// Which Last Frame this is. Called by main.cc, doctor and whatever writes provenance.
#pragma once

#include <string>

namespace lf {

std::string version_number();  // "0.1.0"
std::string commit();          // what `git describe` said when this was built
std::string version();         // "0.1.0 (1a2b3c4d5e)"

}  // namespace lf
