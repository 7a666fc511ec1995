#include "base/error.h"

namespace lf {

void check_failed(const char* expression, const char* file, int line, const std::string& message) {
  throw Error(Code::kBug, str("this is a bug in lastframe: ", file, ":", line, ": ", expression,
                              " does not hold", message.empty() ? "" : ": ", message));
}

}  // namespace lf
