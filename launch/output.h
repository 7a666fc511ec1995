// What commands tell people: their answer on stdout, and files they wrote.
#pragma once

#include <cstdint>
#include <string>

namespace lf {

// "1 clip", "4,096 clips".
std::string counted(uint64_t count, const std::string& noun);

// Writes `text` to stdout and flushes it. Throws Code::kStorage if it cannot be written.
void print(const std::string& text);

// Logs "wrote PATH: WHAT", or "wrote PATH".
void log_written(const std::string& path, const std::string& what = "");

}  // namespace lf
