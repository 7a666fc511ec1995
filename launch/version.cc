// The only file that is recompiled when the commit changes.
#include "launch/version.h"

#include "commit.h"

namespace lf {

std::string version_number() { return LF_VERSION; }
std::string commit() { return LF_COMMIT; }
std::string version() { return version_number() + " (" + commit() + ")"; }

}  // namespace lf
