// A writer of JSON for everything scripts read: --json reports, metrics.jsonl, status.json. 64-bit
// integers stay numbers (protobuf's JSON prints strings), members come in the order of the calls,
// non-finite numbers become null. Reads back members of what it wrote itself; not a parser.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lf {

std::string json_quote(std::string_view text);  // bytes that are not UTF-8 become U+FFFD
std::string json_number(double value);          // the shortest text that reads back equal

// Json report;
// report.object([&] { report.field("clips", 12); report.array("shape", {3, 32, 32}); });
class Json {
 public:
  template <typename Body>
  Json& object(Body&& body) {
    return scope('{', '}', body);
  }
  template <typename Body>
  Json& array(Body&& body) {
    return scope('[', ']', body);
  }
  template <typename Body>
  Json& object(std::string_view name, Body&& body) {
    return key(name).scope('{', '}', body);
  }
  template <typename Body>
  Json& array(std::string_view name, Body&& body) {
    return key(name).scope('[', ']', body);
  }

  template <typename T>
  Json& field(std::string_view name, const T& value) {
    return key(name).value(value);
  }

  Json& value(bool v) { return raw(v ? "true" : "false"); }
  Json& value(double v) { return raw(json_number(v)); }
  Json& value(std::integral auto v) { return raw(std::to_string(v)); }
  Json& value(std::string_view v) { return raw(json_quote(v)); }
  Json& value(const std::string& v) { return raw(json_quote(v)); }
  Json& value(const char* v) { return raw(json_quote(v)); }
  template <typename T>
  Json& value(const std::vector<T>& list) {
    return array([&] {
      for (const auto& item : list) value(item);
    });
  }
  Json& raw(std::string_view text);  // text is JSON already
  Json& key(std::string_view name);

  const std::string& text() const { return text_; }

 private:
  template <typename Body>
  Json& scope(char open, char close, Body&& body) {
    comma();
    text_ += open;
    fresh_ = true;
    body();
    text_ += close;
    fresh_ = false;
    return *this;
  }
  void comma();

  std::string text_;
  bool fresh_ = true;  // nothing stands before the next value in this scope
};

// Names and values of an object that Json wrote, as they stand there: numbers, objects, strings
// without their quotes (escapes stay). What follows a place that is no such text is left out.
std::vector<std::pair<std::string, std::string>> json_members(std::string_view object);
// The value of member `name`; "" if there is none.
std::string json_member(std::string_view object, std::string_view name);

}  // namespace lf
