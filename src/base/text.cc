#include "base/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace lf {

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += parts[i];
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  size_t begin = 0;
  while (true) {
    const size_t end = text.find(separator, begin);
    out.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return out;
    begin = end + 1;
  }
}

std::string human_bytes(uint64_t bytes) {
  if (bytes < 1024) return str(bytes, " B");
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), value < 100 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return out.data();
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  std::array<char, 32> out{};
  if (seconds < 60) {
    std::snprintf(out.data(), out.size(), seconds < 10 ? "%.1fs" : "%.0fs", seconds);
    return out.data();
  }
  const auto total = static_cast<int64_t>(std::llround(std::min(seconds, 1e12)));
  const long long days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0) {
    std::snprintf(out.data(), out.size(), "%lldd%02lldh", days, hours);
  } else if (hours > 0) {
    std::snprintf(out.data(), out.size(), "%lldh%02lldm", hours, minutes);
  } else {
    std::snprintf(out.data(), out.size(), "%lldm%02llds", minutes,
                  static_cast<long long>(total % 60));
  }
  return out.data();
}

std::string human_count(uint64_t n) {
  std::string digits = std::to_string(n);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return digits;
}

std::string human_rate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "?";
  if (per_second >= 10) {
    return human_count(static_cast<uint64_t>(std::llround(std::min(per_second, 1e18)))) + "/s";
  }
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.3g/s", per_second);
  return out.data();
}

static size_t edit_distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = name.size() / 2 + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(name.substr(0, 100), candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string best = nearest(name, candidates);
  return best.empty() ? "" : str(", did you mean '", best, "'?");
}

// Length of the UTF-8 sequence that starts at text[at], or 0 if there is none.
static size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char next = byte(at + 1);
  if ((lead == 0xE0 && next < 0xA0) || (lead == 0xED && next > 0x9F) ||
      (lead == 0xF0 && next < 0x90) || (lead == 0xF4 && next > 0x8F)) {
    return 0;
  }
  return length;
}

bool valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::string printable(std::string_view text, size_t longest) {
  if (text.size() > longest) {
    const size_t half = longest / 2;
    return printable(text.substr(0, half), longest) + "..." +
           printable(text.substr(text.size() - half), longest);
  }
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      std::array<char, 8> code{};
      std::snprintf(code.data(), code.size(), "\\x%02x", byte);
      out += code.data();
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

template <typename T>
static bool parse_whole(std::string_view text, T* value) {
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && last == end && !text.empty();
}

bool parse(std::string_view text, int64_t* value) { return parse_whole(text, value); }
bool parse(std::string_view text, uint64_t* value) { return parse_whole(text, value); }
bool parse(std::string_view text, double* value) { return parse_whole(text, value); }

}  // namespace lf
