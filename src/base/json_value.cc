#include "base/json_value.h"

#include <charconv>
#include <cstdint>
#include <system_error>

namespace lf {

class JsonParser {
 public:
  JsonParser(std::string_view text, size_t most) : text_(text), left_(most) {}

  bool all(JsonValue& into) {
    if (!value(into, 0)) return false;
    skip_space();
    return at_ == text_.size();
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }

  bool value(JsonValue& into, int depth) {
    constexpr int kDeepest = 32;
    skip_space();
    if (at_ >= text_.size() || depth > kDeepest || left_-- == 0) return false;
    switch (text_[at_]) {
      case '{':
        return members(into.value_.emplace<JsonValue::Members>(), depth);
      case '[':
        return list(into.value_.emplace<JsonValue::List>(), depth);
      case '"':
        return quoted(into.value_.emplace<std::string>());
      case 't':
        into.value_ = true;
        return word("true");
      case 'f':
        into.value_ = false;
        return word("false");
      case 'n':
        return word("null");
      default:
        return number(into.value_.emplace<double>());
    }
  }

  bool list(JsonValue::List& into, int depth) {
    ++at_;
    if (take(']')) return true;
    do {
      if (!value(into.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(']');
  }

  bool members(JsonValue::Members& into, int depth) {
    ++at_;
    if (take('}')) return true;
    do {
      skip_space();
      auto& [name, member] = into.emplace_back();
      if (at_ >= text_.size() || text_[at_] != '"' || !quoted(name)) return false;
      if (!take(':') || !value(member, depth + 1)) return false;
    } while (take(','));
    return take('}');
  }

  bool number(double& into) {
    const char* begin = text_.data() + at_;
    const char* end = text_.data() + text_.size();
    const bool minus = *begin == '-';
    if (minus ? begin + 1 == end || begin[1] < '0' || begin[1] > '9' : *begin < '0' || *begin > '9')
      return false;  // from_chars takes "inf" and "nan"
    const auto [stop, error] = std::from_chars(begin, end, into);
    at_ = static_cast<size_t>(stop - text_.data());
    if (error == std::errc::result_out_of_range) {
      const std::string_view written(begin, static_cast<size_t>(stop - begin));
      const bool tiny = written.find("e-") != written.npos || written.find("E-") != written.npos;
      into = tiny ? 0.0 : std::numeric_limits<double>::infinity() * (minus ? -1 : 1);
      return true;
    }
    return error == std::errc();
  }

  bool quoted(std::string& into) {
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return true;
      }
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        into += c;
      } else if (!escape(into)) {
        return false;
      }
    }
    return false;
  }

  // The escape at at_; leaves at_ on its last character.
  bool escape(std::string& into) {
    if (++at_ >= text_.size()) return false;
    constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    if (const size_t which = kNames.find(text_[at_]); which != kNames.npos) {
      into += kValues[which];
      return true;
    }
    uint32_t code = 0;
    if (text_[at_] != 'u' || !hexadecimal(code)) return false;
    if (code >= 0xD800 && code < 0xDC00) {  // the first half of a surrogate pair
      uint32_t low = 0;
      if (text_.substr(at_ + 1, 2) == "\\u" && (at_ += 2, hexadecimal(low)) && low >= 0xDC00 &&
          low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      } else {
        code = 0xFFFD;
      }
    } else if (code >= 0xDC00 && code < 0xE000) {
      code = 0xFFFD;
    }
    append_utf8(into, code);
    return true;
  }

  bool hexadecimal(uint32_t& code) {
    if (at_ + 4 >= text_.size()) return false;
    const char* begin = text_.data() + at_ + 1;
    const auto [stop, error] = std::from_chars(begin, begin + 4, code, 16);
    at_ += 4;
    return error == std::errc() && stop == begin + 4;
  }

  static void append_utf8(std::string& into, uint32_t code) {
    const auto put = [&](uint32_t byte) { into += static_cast<char>(byte); };
    if (code < 0x80) return put(code);
    if (code < 0x800) {
      put(0xC0 | code >> 6);
    } else {
      if (code < 0x10000) {
        put(0xE0 | code >> 12);
      } else {
        put(0xF0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3F));
      }
      put(0x80 | (code >> 6 & 0x3F));
    }
    put(0x80 | (code & 0x3F));
  }

  std::string_view text_;
  size_t at_ = 0, left_;
};

std::optional<JsonValue> JsonValue::parse(std::string_view text, size_t most) {
  JsonValue value;
  if (!JsonParser(text, most).all(value)) return std::nullopt;
  return value;
}

double JsonValue::number(double otherwise) const {
  const double* found = std::get_if<double>(&value_);
  return found != nullptr ? *found : otherwise;
}

bool JsonValue::boolean(bool otherwise) const {
  const bool* found = std::get_if<bool>(&value_);
  return found != nullptr ? *found : otherwise;
}

std::string JsonValue::text(const std::string& otherwise) const {
  const std::string* found = std::get_if<std::string>(&value_);
  return found != nullptr ? *found : otherwise;
}

const JsonValue::List& JsonValue::list() const {
  static const List kEmpty;
  const List* found = std::get_if<List>(&value_);
  return found != nullptr ? *found : kEmpty;
}

const JsonValue::Members& JsonValue::members() const {
  static const Members kEmpty;
  const Members* found = std::get_if<Members>(&value_);
  return found != nullptr ? *found : kEmpty;
}

const JsonValue& JsonValue::operator[](std::string_view name) const {
  static const JsonValue kNull;
  for (const auto& [member, value] : members()) {
    if (member == name) return value;
  }
  return kNull;
}

}  // namespace lf
