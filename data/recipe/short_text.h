// A recipe for people.
#pragma once

#include <string>

namespace lf {

// Recipe::canonical() on one line, with at most five digits of each number.
std::string recipe_in_short(const std::string& canonical);

}  // namespace lf
