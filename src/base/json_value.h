// JSON as a tree, parsed from text that may be damaged or hostile: depth and number of values are
// bounded. For trees; the members of one line that Json wrote are read by json_members (json.h).
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lf {

class JsonValue {
 public:
  using List = std::vector<JsonValue>;
  using Members = std::vector<std::pair<std::string, JsonValue>>;  // in their order

  // Nothing unless all of `text` is one JSON value of at most `most` values, nested at most 32
  // deep. Numbers beyond double's range are infinite; bytes that are not UTF-8 stay as they are.
  static std::optional<JsonValue> parse(std::string_view text, size_t most = 4'000'000);

  // Each returns what it is given, or its default, where the value is of another kind.
  double number(double otherwise = std::numeric_limits<double>::quiet_NaN()) const;
  bool boolean(bool otherwise = false) const;
  std::string text(const std::string& otherwise = "") const;
  const List& list() const;
  const Members& members() const;
  // The first member of that name; null if there is none.
  const JsonValue& operator[](std::string_view name) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_number() const { return std::holds_alternative<double>(value_); }
  bool is_object() const { return std::holds_alternative<Members>(value_); }

 private:
  friend class JsonParser;
  std::variant<std::monostate, bool, double, std::string, List, Members> value_;
};

}  // namespace lf
