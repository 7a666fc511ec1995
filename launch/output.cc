#include "launch/output.h"

#include <cstdio>

#include "base/error.h"
#include "base/log.h"

namespace lf {

std::string counted(uint64_t count, const std::string& noun) {
  return human_count(count) + " " + noun + (count == 1 ? "" : "s");
}

void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    fail(Code::kStorage, "stdout cannot be written; is the disk full?");
  }
}

void log_written(const std::string& path, const std::string& what) {
  LF_INFO("wrote ", printable(path), what.empty() ? "" : ": ", what);
}

}  // namespace lf
