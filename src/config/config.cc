// Loading and overriding. Printing and documentation are in config_print.cc.
#include "config/config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "config/reflect.h"
#include "option.pb.h"

namespace lf {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

constexpr uint64_t kLargestConfig = 1 << 20;
constexpr size_t kDeepestBase = 32;

// Keeps the first error only: most others follow from it.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text.empty()) text = str("line ", line + 1, ", column ", column + 1, ": ", message);
  }
  void AddWarning(int, int, const std::string&) override {}
  std::string text;
};

// The parser's message; for an unknown name, with the nearest known one.
std::string explain(const std::string& message) {
  const size_t at = message.find("has no field named \"");
  if (at == std::string::npos) return printable(message, 300);
  const size_t begin = at + std::string("has no field named \"").size();
  const std::string name = message.substr(begin, message.find('"', begin) - begin);
  const size_t type_begin = message.find("Message type \"");
  std::vector<std::string> known;
  if (type_begin != std::string::npos) {
    const size_t type_at = type_begin + std::string("Message type \"").size();
    const std::string type = message.substr(type_at, message.find('"', type_at) - type_at);
    if (const Descriptor* descriptor =
            google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(type)) {
      known = field_names(*descriptor);
    }
  }
  const std::string near = did_you_mean(name, known);
  return printable(message, 300) + (near.empty() ? nearest_option(name) : near);
}

// Values of `over` replace those of `under`; lists are replaced, not joined.
void merge_over(Message& under, const Message& over) {
  const Reflection* reflection = over.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection->ListFields(over, &present);
  for (const FieldDescriptor* field : present) {
    if (field->is_repeated()) {
      under.GetReflection()->ClearField(&under, field);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      merge_over(*under.GetReflection()->MutableMessage(&under, field),
                 reflection->GetMessage(over, field));
      continue;
    }
    copy_field(over, field, under);
  }
}

Config load_file(const std::string& path, std::vector<std::string>& chain) {
  std::error_code ignored;
  const std::string canonical = std::filesystem::weakly_canonical(path, ignored).string();
  if (std::find(chain.begin(), chain.end(), canonical) != chain.end()) {
    fail(Code::kUsage, "config ", printable(path), " includes itself: ", join(chain, " -> "),
         " -> ", canonical, "; remove one of these `base` lines");
  }
  if (chain.size() >= kDeepestBase) {
    fail(Code::kUsage, "config ", printable(path), ": more than ", kDeepestBase, " `base` levels");
  }
  chain.push_back(canonical);
  Config run = parse_config(read_file(real_file_system(), path, kLargestConfig),
                            "config " + printable(path));
  if (run.has_base()) {
    const std::filesystem::path base = run.base();
    const auto at = base.is_absolute() ? base : std::filesystem::path(path).parent_path() / base;
    Config under = load_file(at.string(), chain);
    under.clear_base();
    run.clear_base();
    merge_over(under, run);
    run.Swap(&under);
  }
  chain.pop_back();
  return run;
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

void set_message(Message& message, const FieldDescriptor& field, const std::string& path,
                 const std::string& value) {
  if (value.size() < 2 || value.front() != '{' || value.back() != '}') {
    fail(Code::kUsage, "--set ", printable(path), " is a group of options; set one of them (", path,
         ".",
         field_names(*field.message_type()).empty() ? "..."
                                                    : field_names(*field.message_type()).front(),
         "=...), or give the group as {text format}");
  }
  Message* into = field.is_repeated() ? message.GetReflection()->AddMessage(&message, &field)
                                      : message.GetReflection()->MutableMessage(&message, &field);
  FirstError errors;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(50);
  if (!parser.ParseFromString(value.substr(1, value.size() - 2), into)) {
    fail(Code::kUsage, "--set ", printable(path), ": ", explain(errors.text));
  }
}

// "{...},{...}" at the outermost level, or "a,b,c".
std::vector<std::string> split_list(const std::string& value) {
  if (value.empty()) return {};
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : value) {
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

}  // namespace

Config parse_config(const std::string& text, const std::string& name) {
  if (!valid_utf8(text)) {
    fail(Code::kUsage, name,
         " is not text (it has bytes that are not UTF-8); expected protobuf's text "
         "format, as in configs/");
  }
  Config run;
  FirstError errors;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(50);
  if (!parser.ParseFromString(text, &run)) fail(Code::kUsage, name, ": ", explain(errors.text));
  return run;
}

void set_option(Config& run, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail(Code::kUsage, "--set ", printable(assignment),
         ": expected name=value, such as train.batch=64");
  }
  const std::string path = assignment.substr(0, equals), value = assignment.substr(equals + 1);
  Message* message = &run;
  const std::vector<std::string> names = split(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const Descriptor* type = message->GetDescriptor();
    const FieldDescriptor* field = type->FindFieldByName(names[i]);
    if (field == nullptr) {
      const std::string above = join({names.begin(), names.begin() + static_cast<int64_t>(i)}, ".");
      fail(Code::kUsage, "--set: there is no option '", printable(path), "' (",
           above.empty() ? "the config" : above, " has no '", printable(names[i]), "')",
           nearest_option(path));
    }
    if (i + 1 == names.size()) {
      if (field->is_repeated()) {
        message->GetReflection()->ClearField(message, field);
        for (const std::string& part : split_list(value)) {
          field->message_type() ? set_message(*message, *field, path, part)
                                : set_scalar(*message, *field, path, part);
        }
      } else {
        field->message_type() ? set_message(*message, *field, path, value)
                              : set_scalar(*message, *field, path, value);
      }
      return;
    }
    if (field->message_type() == nullptr || field->is_repeated()) {
      fail(Code::kUsage, "--set: '", printable(path), "' goes below '", names[i], "', which is ",
           field->is_repeated() ? "a list" : "a single option");
    }
    message = message->GetReflection()->MutableMessage(message, field);
  }
}

Config load_config(const std::string& path, const std::vector<std::string>& sets) {
  Config run;
  std::vector<std::string> chain;
  if (!path.empty()) run = load_file(path, chain);
  for (const std::string& assignment : sets) set_option(run, assignment);
  check_ranges(run);
  return run;
}

static void check_ranges_below(const Message& message, const std::string& prefix) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    const std::string path = prefix + field->name();
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->message_type()) {
        check_ranges_below(read_message(message, *field, i), path + ".");
      } else if (!range_of(*field).empty()) {
        const double value = read_number(message, *field, i);
        if (!in_range(range_of(*field), value)) {
          fail(Code::kUsage, path, " is ", read_text(message, *field, i), ", expected ",
               type_name(*field), " in ", range_of(*field));
        }
      }
    }
  }
}

void check_ranges(const Message& message) { check_ranges_below(message, ""); }

}  // namespace lf
