#include "base/utc.h"

#include <array>
#include <ctime>

namespace lf {

std::string utc_text(double unix_seconds) {
  if (!(unix_seconds > -6.2e10 && unix_seconds < 2.5e11)) return "?";
  const auto seconds = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  std::array<char, 32> text{};
  ::gmtime_r(&seconds, &parts);
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

}  // namespace lf
