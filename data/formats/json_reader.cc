#include "data/formats/json_reader.h"

#include <cctype>

#include "base/error.h"

namespace lf {
namespace {

void append_utf8(std::string& out, uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

void JsonReader::damaged(const char* expected) const {
  fail(Code::kData, what_, ": byte ", at_, " of its JSON is not ", expected);
}

char JsonReader::peek() {
  while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string::npos) {
    ++at_;
  }
  if (at_ == text_.size()) damaged("there; cut?");
  return text_[at_];
}

bool JsonReader::take(char c) {
  if (peek() != c) return false;
  ++at_;
  return true;
}

void JsonReader::sequence(char open, char close, const std::function<void()>& item) {
  constexpr int kDeepest = 64;
  if (!take(open)) damaged(open == '{' ? "an object" : "an array");
  if (++depth_ > kDeepest) damaged("nested so deeply usually");
  if (!take(close)) {
    do {
      item();
    } while (take(','));
    if (!take(close)) damaged("a comma or the end");
  }
  --depth_;
}

void JsonReader::members(const std::function<void(const std::string& name)>& value) {
  sequence('{', '}', [&] {
    const std::string name = text();
    if (!take(':')) damaged("a colon");
    value(name);
  });
}

void JsonReader::elements(const std::function<void()>& value) { sequence('[', ']', value); }

uint32_t JsonReader::code_unit() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const auto c = static_cast<unsigned char>(at_ < text_.size() ? text_[at_] : 0);
    if (std::isxdigit(c) == 0) damaged("a hexadecimal digit");
    const int digit = std::isdigit(c) != 0 ? c - '0' : std::tolower(c) - 'a' + 10;
    code = code << 4 | static_cast<uint32_t>(digit);
  }
  return code;
}

std::string JsonReader::text() {
  if (!take('"')) damaged("a text");
  std::string out;
  for (; at_ < text_.size() && text_[at_] != '"';) {
    const char c = text_[at_++];
    if (c != '\\') {
      out += c;
      continue;
    }
    const char escape = at_ < text_.size() ? text_[at_++] : '\0';
    constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    if (const size_t which = kEscapes.find(escape); which != std::string_view::npos) {
      out += kMeant[which];
    } else if (escape == 'u') {
      uint32_t code = code_unit();
      if (code >> 10 == 0x36 && text_.substr(at_, 2) == "\\u") {  // the first of a pair
        at_ += 2;
        code = 0x10000 + ((code & 0x3FF) << 10) + (code_unit() & 0x3FF);
      }
      append_utf8(out, code);
    } else {
      damaged("an escape");
    }
  }
  if (at_ == text_.size()) damaged("the end of a text; cut?");
  ++at_;
  return out;
}

int64_t JsonReader::integer() {
  peek();
  const size_t begin = at_;
  while (at_ < text_.size() &&
         std::string_view("+-.eE0123456789").find(text_[at_]) != std::string_view::npos) {
    ++at_;
  }
  int64_t value = 0;
  if (!parse(text_.substr(begin, at_ - begin), &value)) damaged("behind a whole number");
  return value;
}

void JsonReader::skip() {
  const char c = peek();
  if (c == '{') return members([&](const std::string&) { skip(); });
  if (c == '[') return elements([&] { skip(); });
  if (c == '"') return void(text());
  // A number, true, false or null.
  const size_t begin = at_;
  while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                std::string_view("+-.").find(text_[at_]) != std::string::npos)) {
    ++at_;
  }
  if (at_ == begin) damaged("a value");
}

}  // namespace lf
