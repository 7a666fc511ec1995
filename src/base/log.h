// What people read while the program runs: rank 0 on stderr, every rank in its own file under the
// run folder, in glog's format. Only log.cc includes glog; LibTorch's own macros write to the same
// sink (C10_USE_GLOG).
#pragma once

#include <string>

#include "base/text.h"

namespace lf {

enum class Severity { kInfo = 0, kWarning = 1, kError = 2 };

// Call once, early. Until open_log_file() only stderr is written, and only by `rank` 0 (warnings
// and errors by every rank).
void start_log(const std::string& program, int rank);

// From now on this rank also appends to FOLDER/rank-NNNN.log; a restarted run continues the file.
void open_log_file(const std::string& folder);

void log_line(Severity severity, const char* file, int line, const std::string& message);

// The report of an uncaught error: one line on stderr whatever the rank, and in the log file.
void log_fatal_line(const std::string& message);

#define LF_INFO(...) \
  ::lf::log_line(::lf::Severity::kInfo, __FILE__, __LINE__, ::lf::str(__VA_ARGS__))
#define LF_WARN(...) \
  ::lf::log_line(::lf::Severity::kWarning, __FILE__, __LINE__, ::lf::str(__VA_ARGS__))
#define LF_ERROR(...) \
  ::lf::log_line(::lf::Severity::kError, __FILE__, __LINE__, ::lf::str(__VA_ARGS__))

}  // namespace lf
