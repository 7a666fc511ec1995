// Small text operations that error messages and reports need: joining parts, human-readable sizes
// and durations, the nearest name for "did you mean", and escaping of hostile names.
#pragma once

#include <chrono>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace lf {

// Concatenates its arguments as an output stream would print them.
template <typename... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);

// 1536 -> "1.5 KiB"; 125.0 s -> "2m05s"; 4096 -> "4,096"; 0.0421 a second -> "0.0421/s".
std::string human_bytes(uint64_t bytes);
std::string human_seconds(double seconds);
std::string human_count(uint64_t n);
std::string human_rate(double per_second);

// The candidate with the smallest edit distance to `name`, whose case does not count, or "" if none
// is near (more than half of the name would have to change).
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

// ", did you mean 'x'?" or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

// A file name or other foreign text made printable on one line: control characters and bytes that
// are not UTF-8 become \xNN, long texts are cut in the middle.
std::string printable(std::string_view text, size_t longest = 200);

bool valid_utf8(std::string_view text);

// Whole-string parses; false if anything is left over or the value does not fit.
bool parse(std::string_view text, int64_t* value);
bool parse(std::string_view text, uint64_t* value);
bool parse(std::string_view text, double* value);

}  // namespace lf
