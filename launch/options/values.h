// The kinds of values that options take: their check, and their range and default in words. Those
// of options of the config are looked up in run.proto.
#pragma once

#include <string>
#include <vector>

#include "launch/options/option.h"

namespace lf {

// "" if `value` is valid; else what was expected, "a whole number in [1, 64]".
std::string expected_instead(const Option& option, const std::string& value);

// How many arguments follow the option's name: 0, 1 or 2.
size_t arguments_of(const Option& option);

// For people: "1 to 64", "at least 1", "FP32 or BF16", "". A default of the config counts.
std::string range_text(const Option& option);
std::string default_text(const Option& option);

// For programs: "switch", "text", "integer", "number", "rate", "word" or "set".
std::string kind_name(const Option& option);
std::vector<std::string> words_of(const Option& option);

// "a", "a or b", "a, b or c".
std::string listed(const std::vector<std::string>& parts, const char* last = " or ");

}  // namespace lf
