// Reads JSON written by strangers, value by value, without building a tree. Not for what this
// program wrote itself (base/json.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace lf {

// Every call reads the value that comes next. Throws Code::kData, beginning with `what`, at what is
// no JSON or another kind of value, and at values nested more than 64 deep.
class JsonReader {
 public:
  JsonReader(std::string_view text, std::string what) : text_(text), what_(std::move(what)) {}

  // The first character of the value: one of {["-0123456789tfn
  char peek();
  std::string text();
  int64_t integer();
  // The functions must read or skip each value.
  void members(const std::function<void(const std::string& name)>& value);
  void elements(const std::function<void()>& value);
  void skip();

 private:
  [[noreturn]] void damaged(const char* expected) const;
  bool take(char c);  // after white space
  void sequence(char open, char close, const std::function<void()>& item);
  uint32_t code_unit();

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  std::string what_;
};

}  // namespace lf
