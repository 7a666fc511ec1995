// Overriding of config.h: "a.b=value" over a config.
#include <google/protobuf/message.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "config/config.h"
#include "config/meaning.h"
#include "config/reflect.h"

namespace lf {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

std::vector<std::string> enum_names(const FieldDescriptor& field) {
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names.push_back(field.enum_type()->value(i)->name());
  }
  return names;
}

[[noreturn]] void refuse_value(const std::string& path, const std::string& value,
                               const FieldDescriptor& field) {
  fail(Code::kUsage, "--set ", printable(path), "=", printable(value), ": expected ",
       type_name(field), range_of(field).empty() ? "" : " in " + range_of(field));
}

int64_t parse_integer(const std::string& path, const std::string& value,
                      const FieldDescriptor& field) {
  int64_t number = 0;
  double real = 0;
  if (parse(value, &number)) return number;
  // People write counts as "1e6" or "5e4".
  if (parse(value, &real) && std::floor(real) == real && std::abs(real) < 9e15) {
    return static_cast<int64_t>(real);
  }
  refuse_value(path, value, field);
}

uint64_t parse_unsigned(const std::string& path, const std::string& value,
                        const FieldDescriptor& field) {
  uint64_t number = 0;
  if (parse(value, &number)) return number;
  const int64_t other = parse_integer(path, value, field);
  if (other < 0) refuse_value(path, value, field);
  return static_cast<uint64_t>(other);
}

void set_scalar(Message& message, const FieldDescriptor& field, const std::string& path,
                const std::string& value) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      const int64_t number = parse_integer(path, value, field);
      if (number < std::numeric_limits<int32_t>::min() ||
          number > std::numeric_limits<int32_t>::max()) {
        refuse_value(path, value, field);
      }
      return write_field(message, field, static_cast<int32_t>(number));
    }
    case FieldDescriptor::CPPTYPE_INT64:
      return write_field(message, field, parse_integer(path, value, field));
    case FieldDescriptor::CPPTYPE_UINT32: {
      const uint64_t number = parse_unsigned(path, value, field);
      if (number > std::numeric_limits<uint32_t>::max()) refuse_value(path, value, field);
      return write_field(message, field, static_cast<uint32_t>(number));
    }
    case FieldDescriptor::CPPTYPE_UINT64:
      return write_field(message, field, parse_unsigned(path, value, field));
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double number = 0;
      if (!parse(value, &number) || !std::isfinite(number)) refuse_value(path, value, field);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
        return write_field(message, field, number);
      }
      return write_field(message, field, static_cast<float>(number));
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      if (value != "true" && value != "false" && value != "1" && value != "0") {
        refuse_value(path, value, field);
      }
      return write_field(message, field, value == "true" || value == "1");
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::string name = value;
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return std::toupper(c); });
      const EnumValueDescriptor* number = field.enum_type()->FindValueByName(name);
      if (number == nullptr) {
        fail(Code::kUsage, "--set ", printable(path), "=", printable(value), ": expected one of ",
             join(enum_names(field), ", "), did_you_mean(name, enum_names(field)));
      }
      return write_field(message, field, number);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      if (!valid_utf8(value)) refuse_value(path, value, field);
      return write_field(message, field, value);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  LF_CHECK(false, "not a scalar: ", path);
}

// "a, b" at the outermost level of braces and brackets; blanks around a part do not count.
std::vector<std::string> split_list(std::string value) {
  value = trimmed(value);
  if (value.starts_with('[') && value.ends_with(']')) value = value.substr(1, value.size() - 2);
  if (trimmed(value).empty()) return {};
  std::vector<std::string> parts(1);
  int depth = 0;
  char quote = 0;
  for (const char c : value) {
    if (quote != 0) {
      quote = c == quote ? 0 : quote;
    } else if (depth > 0 && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == ',' && depth == 0) {
      parts.emplace_back();
      continue;
    }
    if (quote == 0) depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    parts.back() += c;
  }
  for (std::string& part : parts) part = trimmed(part);
  return parts;
}

// One --set: the path as far as it is read, and what it means for the config.
class Assignment {
 public:
  explicit Assignment(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail(Code::kUsage, "--set ", printable(text),
           ": expected name=value, such as train.batch=64");
    }
    appends_ = text[equals - 1] == '+';
    path_ = text.substr(0, equals - (appends_ ? 1 : 0));
    value_ = text.substr(equals + 1);
    names_ = split(path_, '.');
  }

  void apply(Message& root) {
    of_config_ = root.GetDescriptor() == Config::descriptor();
    Message* message = &root;
    for (size_t i = 0; i < names_.size(); ++i) {
      const FieldDescriptor& field = find(*message, i);
      if (i == 0 && field.name() == "base") {
        fail(Code::kUsage,
             "--set base has no meaning: a base is what a config file begins with; "
             "give it by --config");
      }
      note_choice(field, up_to(i));
      if (i + 1 == names_.size()) return set_whole(*message, field);
      if (field.is_repeated()) {
        const int index = index_of(*message, field, ++i);
        if (i + 1 == names_.size()) return set_element(*message, field, index);
        if (field.message_type() == nullptr) refuse_below(field);
        message = message->GetReflection()->MutableRepeatedMessage(message, &field, index);
      } else {
        if (field.message_type() == nullptr) refuse_below(field);
        message = message->GetReflection()->MutableMessage(message, &field);
      }
    }
  }

  // "recipe.corruption" -> the field that the path chooses.
  const std::map<std::string, const FieldDescriptor*>& choices() const { return choices_; }

 private:
  std::string up_to(size_t count) const {
    return join({names_.begin(), names_.begin() + static_cast<int64_t>(count)}, ".");
  }

  const FieldDescriptor& find(const Message& message, size_t i) const {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(names_[i]);
    if (field != nullptr) return *field;
    fail(Code::kUsage, "--set: there is no option '", printable(path_), "' (",
         i == 0 ? "the config" : up_to(i), " has no '", printable(names_[i]), "')",
         of_config_ ? nearest_option(path_)
                    : did_you_mean(names_[i], field_names(*message.GetDescriptor())));
  }

  void note_choice(const FieldDescriptor& field, const std::string& group) {
    if (const OneofDescriptor* oneof = field.containing_oneof()) {
      choices_[group + "." + oneof->name()] = &field;
    }
  }

  void note_choices_in(const Message& group, const std::string& path) {
    std::vector<const FieldDescriptor*> present;
    group.GetReflection()->ListFields(group, &present);
    for (const FieldDescriptor* field : present) {
      note_choice(*field, path);
      if (field->message_type() != nullptr && !field->is_repeated()) {
        note_choices_in(read_message(group, *field, 0), path + "." + field->name());
      }
    }
  }

  [[noreturn]] void refuse_below(const FieldDescriptor& field) const {
    fail(Code::kUsage, "--set: '", printable(path_), "' goes below '", field.name(),
         "', which is a single option");
  }

  int index_of(const Message& message, const FieldDescriptor& list, size_t i) const {
    const int size = message.GetReflection()->FieldSize(message, &list);
    int64_t index = -1;
    if (!parse(names_[i], &index)) {
      fail(Code::kUsage, "--set: '", printable(path_), "' goes below '", list.name(),
           "', which is a list; name an element by its number, from 0: ", up_to(i), ".0.",
           names_[i], "=...");
    }
    if (index < 0 || index >= size) {
      fail(Code::kUsage, "--set ", printable(path_), ": the list has ", size,
           size == 1 ? " element" : " elements", ", numbered from 0; ", up_to(i),
           "+=... appends one");
    }
    return static_cast<int>(index);
  }

  // The option at the end of the path, or the whole list.
  void set_whole(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    if (!field.is_repeated()) {
      if (appends_) {
        fail(Code::kUsage, "--set ", printable(path_), "+=: it is no list; use ", path_, "=...");
      }
      if (field.message_type() == nullptr) return set_scalar(message, field, path_, value_);
      Message& group = *reflection.MutableMessage(&message, &field);
      set_group(group, value_);
      return note_choices_in(group, path_);
    }
    if (!appends_) reflection.ClearField(&message, &field);
    for (const std::string& part : split_list(value_)) {
      if (field.message_type() != nullptr) {
        set_group(*reflection.AddMessage(&message, &field), part);
      } else {
        set_scalar(message, field, path_, part);
      }
    }
  }

  void set_element(Message& message, const FieldDescriptor& list, int index) const {
    const Reflection& reflection = *message.GetReflection();
    if (appends_) {
      fail(Code::kUsage, "--set ", printable(path_), "+=: an element is no list; use ", path_,
           "=...");
    }
    if (list.message_type() != nullptr) {
      return set_group(*reflection.MutableRepeatedMessage(&message, &list, index), value_);
    }
    set_scalar(message, list, path_, value_);  // appended, then put in its place
    reflection.SwapElements(&message, &list, index, reflection.FieldSize(message, &list) - 1);
    reflection.RemoveLast(&message, &list);
  }

  void set_group(Message& group, const std::string& value) const {
    const std::string text = trimmed(value);
    if (text.size() < 2 || text.front() != '{' || text.back() != '}') {
      const std::vector<std::string> names = field_names(*group.GetDescriptor());
      const std::string one = names.empty() ? "" : names.front();
      fail(Code::kUsage, "--set ", printable(path_),
           " is a group of options, expected {...}, such as --set '", path_,
           "={}' for its defaults",
           one.empty() ? "" : str(", or one of them, ", path_, ".", one, "=..."));
    }
    parse_message(text.substr(1, text.size() - 2), "--set " + printable(path_), group);
  }

  std::string path_, value_;
  bool appends_ = false, of_config_ = true;
  std::vector<std::string> names_;
  std::map<std::string, const FieldDescriptor*> choices_;
};

// Two of recipe's operators are almost always meant as both.
std::string how_to_have_both(const FieldDescriptor& first, const FieldDescriptor& second) {
  const Descriptor& one = *OperatorConfig::descriptor();
  if (first.containing_type() != RecipeConfig::descriptor() ||
      one.FindFieldByName(first.name()) == nullptr ||
      one.FindFieldByName(second.name()) == nullptr) {
    return "";
  }
  return str(", or both, one after the other: --set 'recipe.composite.operators={", first.name(),
             " {}},{", second.name(), " {}}'");
}

}  // namespace

void set_option(Message& message, const std::string& assignment) {
  Assignment(assignment).apply(message);
}

void set_options(Config& run, const std::vector<std::string>& assignments) {
  std::map<std::string, const FieldDescriptor*> chosen;
  for (const std::string& text : assignments) {
    Assignment assignment(text);
    assignment.apply(run);
    for (const auto& [oneof, field] : assignment.choices()) {
      const auto [before, first] = chosen.emplace(oneof, field);
      if (first || before->second == field) continue;
      const std::string group = oneof.substr(0, oneof.rfind('.') + 1);
      fail(Code::kUsage, "--set chooses both ", group, before->second->name(), " and ", group,
           field->name(), ", which exclude each other; give one of them",
           how_to_have_both(*before->second, *field));
    }
  }
  check_ranges(run);
  check_meaning(run, assignments);
}

}  // namespace lf
