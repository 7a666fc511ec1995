// The name of this machine.
#pragma once

#include <string>

namespace lf {

std::string host_name();  // as gethostname() gives it; "unknown" if it fails

}  // namespace lf
