#include "data/recipe/short_text.h"

#include <array>
#include <cctype>
#include <cstdio>

#include "base/text.h"

namespace lf {

std::string recipe_in_short(const std::string& canonical) {
  std::string out;
  for (size_t at = 0; at < canonical.size();) {
    size_t end = at;
    while (
        end < canonical.size() &&
        (std::isdigit(static_cast<unsigned char>(canonical[end])) != 0 || canonical[end] == '.')) {
      ++end;
    }
    const std::string number = canonical.substr(at, end - at);
    double value = 0;
    if (number.find('.') != std::string::npos && number.size() > 6 && parse(number, &value)) {
      std::array<char, 32> digits{};
      std::snprintf(digits.data(), digits.size(), "%.5g", value);
      out += digits.data();
    } else {
      out += number;
    }
    if (end < canonical.size()) out += canonical[end];
    at = end + 1;
  }
  return printable(out, 1000);
}

}  // namespace lf
