#include "report/scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace lf {
namespace {

template <typename... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 64> out{};
  std::snprintf(out.data(), out.size(), format, values...);
  return out.data();
}

// The next of 1, 2, 5, 10 times a power of ten that is at least `step`.
double nice_step(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (step <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

// As many digits as tell two ticks apart; `most` is the axis's largest value.
std::string tick_label(double value, double step, double most) {
  if (std::abs(value) < step * 1e-6) return "0";
  if (most >= 1e4 || most < 1e-4) return compact_number(value);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 6);
  return formatted("%.*f", decimals, value);
}

}  // namespace

std::string short_number(double value) {
  if (!std::isfinite(value)) return "not finite";
  if (const double size = std::abs(value); size >= 1000 && size < 1e9) {
    return formatted(size >= 1e5 || value == std::round(value) ? "%.0f" : "%.1f", value);
  }
  return formatted("%.4g", value);
}

std::string compact_number(double value) {
  if (!std::isfinite(value)) return "not finite";
  constexpr std::array<const char*, 7> kPrefixes = {"", "k", "M", "G", "T", "P", "E"};
  double size = std::abs(value);
  size_t prefix = 0;
  while (size >= 999.5 && prefix + 1 < kPrefixes.size()) {
    size /= 1000;
    ++prefix;
  }
  if (size >= 1e4) return formatted("%.3g", value);
  return (value < 0 ? "-" : "") + formatted("%.3g", size) + kPrefixes[prefix];
}

std::string whole_number(double value) {
  if (!(value >= 0.5)) return "";
  return value < 1e9 ? human_count(static_cast<uint64_t>(value)) : compact_number(value);
}

std::string with_spread(double mean, double spread) {
  if (!std::isfinite(mean) || !(spread > 0) || spread > 1e6 || std::abs(mean) > 1e9) {
    return short_number(mean) + " ± " + short_number(spread);
  }
  const int decimals = std::clamp(1 - static_cast<int>(std::floor(std::log10(spread))), 0, 6);
  return formatted("%.*f ± %.*f", decimals, mean, decimals, spread);
}

Scale::Scale(double low, double high, bool logarithmic) : low_(low), high_(high) {
  if (!(low_ <= high_) || !std::isfinite(low_) || !std::isfinite(high_)) low_ = 0, high_ = 1;
  // Nothing of which the difference would be lost in rounding, nor so small that it cannot divide.
  constexpr double kSmallest = 1e-290;
  const double size = std::max(std::abs(low_), std::abs(high_));
  if (high_ - low_ <= std::max(size * 1e-9, kSmallest)) {
    const double half = size <= kSmallest ? 1 : size * 0.1;
    low_ -= half;
    high_ += half;
  }
  logarithmic_ = logarithmic && low_ > 0;
}

double Scale::place(double value) const {
  if (!logarithmic_) return value / (high_ - low_) - low_ / (high_ - low_);
  if (value <= 0) return 0;
  return std::log(value / low_) / std::log(high_ / low_);
}

std::vector<Tick> Scale::ticks(int count) const {
  std::vector<Tick> ticks;
  const double decades = logarithmic_ ? std::log10(high_ / low_) : 0;
  if (logarithmic_ && decades >= 0.6) {
    const int first = static_cast<int>(std::floor(std::log10(low_)));
    const int every = std::max(1, static_cast<int>(std::ceil(decades / count)));
    for (int power = first; power <= static_cast<int>(std::ceil(std::log10(high_))); ++power) {
      if (power % every != 0) continue;
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * std::pow(10, power);
        if (factor > 1 && decades * 2 > count) continue;
        if (value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9)) {
          ticks.push_back({value, compact_number(value)});
        }
      }
    }
    if (ticks.size() >= 2) return ticks;
    ticks.clear();
  }
  const double range = high_ - low_;
  if (!std::isfinite(range)) return {{low_, compact_number(low_)}, {high_, compact_number(high_)}};
  const double step = nice_step(range / std::max(1, count));
  for (double value = std::ceil(low_ / step - 1e-9) * step; value <= high_ + step * 1e-9;
       value += step) {
    ticks.push_back({value, tick_label(value, step, std::max(std::abs(low_), std::abs(high_)))});
    if (ticks.size() > 50) break;  // a step below the rounding of its value
  }
  return ticks;
}

}  // namespace lf
