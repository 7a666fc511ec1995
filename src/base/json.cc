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

// The end of the value that begins at `at`: where its scope's next comma or closing brace stands.
static size_t end_of_value(std::string_view text, size_t at) {
  int depth = 0;
  for (bool quoted = false; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      quoted = c != '"';
      continue;
    }
    quoted = c == '"';
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
  }
  return std::string_view::npos;
}

std::vector<std::pair<std::string, std::string>> json_members(std::string_view object) {
  std::vector<std::pair<std::string, std::string>> members;
  for (size_t at = 1; object.starts_with('{') && at < object.size();) {
    const size_t end = end_of_value(object, at);
    if (end == std::string_view::npos) break;
    const std::string_view member = object.substr(at, end - at);
    at = end + 1;
    const size_t colon = member.find("\":");
    if (!member.starts_with('"') || colon == std::string_view::npos) continue;
    std::string_view value = member.substr(colon + 2);
    if (value.size() >= 2 && value.starts_with('"')) value = value.substr(1, value.size() - 2);
    members.emplace_back(member.substr(1, colon - 1), value);
  }
  return members;
}

std::string json_member(std::string_view object, std::string_view name) {
  for (auto& [member, value] : json_members(object)) {
    if (member == name) return std::move(value);
  }
  return {};
}

}  // namespace lf
