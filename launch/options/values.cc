#include "launch/options/values.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "config/config.h"
#include "launch/options/call.h"
#include "launch/options/outputs.h"
#include "launch/options/rate.h"

namespace lf {
namespace {

OptionDoc doc_of(const char* path) {
  for (OptionDoc& doc : document_options(path)) {
    if (doc.path == path) return std::move(doc);
  }
  fail(Code::kBug, "run.proto has no option ", path);
}

bool is_switch(const Option& option) { return *option.value.placeholder == '\0'; }

// "[2, 64]" -> "2 to 64", "[0, )" -> "at least 0", "(0, 1]" -> "above 0, at most 1".
std::string interval_text(const std::string& interval) {
  if (interval.empty()) return "";
  const size_t comma = interval.find(',');
  const std::string low = interval.substr(1, comma - 1);
  std::string high = interval.substr(comma + 1, interval.size() - comma - 2);
  high.erase(0, high.find_first_not_of(' '));
  const bool closed = interval.front() == '[' && interval.back() == ']';
  if (closed && !low.empty() && !high.empty()) return low + " to " + high;
  std::vector<std::string> parts;
  if (!low.empty()) parts.push_back((interval.front() == '[' ? "at least " : "above ") + low);
  if (!high.empty()) parts.push_back((interval.back() == ']' ? "at most " : "below ") + high);
  return join(parts, ", ");
}

// The interval as run.proto would write it.
std::string interval_of(const Value& value) {
  if (value.kind == Value::kNumber) return str("(", value.above, ", ", value.most, "]");
  if (value.kind != Value::kInteger) return "";
  return value.high == kNoLimit ? str("[", value.low, ", )")
                                : str("[", value.low, ", ", value.high, "]");
}

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string expected_of_groups(const std::vector<std::string>& groups, const std::string& value) {
  const std::string group = value.substr(0, value.find_first_of(".+="));
  const bool known = Config::descriptor()->FindFieldByName(group) != nullptr;
  if (groups.empty() || contains(groups, group) || !known) return "";
  return str("an option of ", listed(groups), "; ", group, " has no meaning here");
}

std::string expected_of_config(const Option& option, const std::string& value) {
  try {
    Config config;
    set_option(config, str(option.value.config, "=", value));
    check_ranges(config);
    return "";
  } catch (const Error& error) {
    if (error.code() != Code::kUsage) throw;
  }
  const OptionDoc doc = doc_of(option.value.config);
  if (doc.type.find('|') != std::string::npos) return listed(split(doc.type, '|'));
  const std::string kind =
      doc.type.ends_with("int") ? "a whole number" : "a value of type " + doc.type;
  return doc.range.empty() ? kind : kind + " in " + doc.range;
}

}  // namespace

std::string listed(const std::vector<std::string>& parts, const char* last) {
  if (parts.size() < 2) return join(parts, "");
  return join({parts.begin(), parts.end() - 1}, ", ") + last + parts.back();
}

size_t arguments_of(const Option& option) {
  if (is_switch(option)) return 0;
  return std::strchr(option.value.placeholder, ' ') == nullptr ? 1 : 2;
}

std::vector<std::string> words_of(const Option& option) {
  if (option.value.kind == Value::kWord) return split(option.value.words, '|');
  if (option.value.kind != Value::kConfig || is_switch(option)) return {};
  const std::string type = doc_of(option.value.config).type;
  return type.find('|') == std::string::npos ? std::vector<std::string>{} : split(type, '|');
}

std::string expected_instead(const Option& option, const std::string& value) {
  const Value& kind = option.value;
  switch (kind.kind) {
    case Value::kSwitch:
      return "";
    case Value::kText:
      return *kind.endings == '\0' ? "" : expected_output(option, value);
    case Value::kInteger: {
      int64_t found = 0;
      if (parse(value, &found) && found >= kind.low && found <= kind.high) return "";
      return "a whole number in " + interval_of(kind);
    }
    case Value::kNumber: {
      double found = 0;
      if (parse(value, &found) && found > kind.above && found <= kind.most) return "";
      return "a number in " + interval_of(kind);
    }
    case Value::kRate: {
      double found = 0;
      return parse_rate(value, &found) ? "" : "a rate such as 400Gb/s (bits) or 5GB/s (bytes)";
    }
    case Value::kWord: {
      const std::vector<std::string> words = words_of(option);
      return contains(words, value) ? "" : listed(words) + did_you_mean(value, words);
    }
    case Value::kSets:
      return expected_of_groups(alternatives(kind.config), value);
    case Value::kConfig:
      return expected_of_config(option, value);
  }
  return "";
}

std::string range_text(const Option& option) {
  if (is_switch(option)) return "";
  const std::vector<std::string> words = words_of(option);
  if (!words.empty()) return listed(words);
  return interval_text(option.value.kind == Value::kConfig ? doc_of(option.value.config).range
                                                           : interval_of(option.value));
}

std::string default_text(const Option& option) {
  if (*option.terms.computed != '\0') return option.terms.computed;
  if (*option.terms.fallback != '\0') return option.terms.fallback;
  if (option.value.kind != Value::kConfig || is_switch(option)) return "";
  std::string text = doc_of(option.value.config).fallback;
  std::erase(text, '"');  // around text
  return text;
}

std::string kind_name(const Option& option) {
  if (is_switch(option)) return "switch";
  if (!words_of(option).empty()) return "word";
  switch (option.value.kind) {
    case Value::kInteger:
      return "integer";
    case Value::kNumber:
      return "number";
    case Value::kRate:
      return "rate";
    case Value::kSets:
      return "set";
    case Value::kConfig: {
      const std::string type = doc_of(option.value.config).type;
      return type.starts_with("list") ? "text" : type.ends_with("int") ? "integer" : type;
    }
    default:
      return "text";
  }
}

}  // namespace lf
