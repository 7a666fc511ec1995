// Rates of networks and storage as their makers write them: 400Gb/s in bits, 5GB/s in bytes.
#pragma once

#include <string_view>

namespace lf {

// A positive decimal number and a unit, with or without a space between: [KMGT][i]B/s are bytes,
// [KMGT]b/s or [KMGT]bit/s bits, of powers of 1000, or of 1024 with an i. False for all else.
bool parse_rate(std::string_view text, double* bytes_per_second);

}  // namespace lf
