// Times of day for people.
#pragma once

#include <string>

namespace lf {

// Seconds since 1970 -> "2026-11-30 16:04:22 UTC"; "?" far beyond our years.
std::string utc_text(double unix_seconds);

}  // namespace lf
