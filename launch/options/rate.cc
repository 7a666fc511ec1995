#include "launch/options/rate.h"

#include <cmath>

#include "base/text.h"

namespace lf {

bool parse_rate(std::string_view text, double* bytes_per_second) {
  const size_t end = text.find_first_not_of("0123456789.");
  double value = 0;
  if (end == std::string_view::npos || !parse(text.substr(0, end), &value) || value <= 0) {
    return false;
  }
  std::string_view unit = text.substr(end);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  if (!unit.ends_with("/s")) return false;
  unit.remove_suffix(2);
  constexpr std::string_view kPrefixes = "KMGT";
  double base = 1000;
  int power = 0;
  if (!unit.empty() && kPrefixes.find(unit[0]) != std::string_view::npos) {
    power = static_cast<int>(kPrefixes.find(unit[0])) + 1;
    unit.remove_prefix(1);
    if (unit == "iB") {
      base = 1024;
      unit.remove_prefix(1);
    }
  }
  if (unit != "B" && unit != "b" && unit != "bit") return false;
  *bytes_per_second = value * std::pow(base, power) / (unit == "B" ? 1 : 8);
  return true;
}

}  // namespace lf
