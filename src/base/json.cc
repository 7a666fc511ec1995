#include "base/json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace lf {

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[at];
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte < 0x20) {
      std::array<char, 8> code{};
      std::snprintf(code.data(), code.size(), "\\u%04x", byte);
      out += code.data();
    } else if (byte < 0x80) {
      out += text[at];
    } else {
      size_t length = 4;
      while (length > 1 && (at + length > text.size() || !valid_utf8(text.substr(at, length)))) {
        --length;
      }
      if (length > 1) {
        out += text.substr(at, length);
        at += length - 1;
      } else {
        out += "\\ufffd";
      }
    }
  }
  return out += '"';
}

std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 40> out{};
  const auto result = std::to_chars(out.data(), out.data() + out.size(), value);
  return std::string(out.data(), result.ptr);
}

void Json::comma() {
  if (!fresh_ && !text_.empty()) text_ += ',';
  fresh_ = false;
}

Json& Json::raw(std::string_view text) {
  comma();
  text_ += text;
  return *this;
}

Json& Json::key(std::string_view name) {
  comma();
  text_ += json_quote(name);
  text_ += ':';
  fresh_ = true;
  return *this;
}

}  // namespace lf
