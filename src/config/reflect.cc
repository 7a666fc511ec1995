#include "config/reflect.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "config/config.h"
#include "option.pb.h"

namespace lf {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

namespace {

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

}  // namespace

void parse_message(const std::string& text, const std::string& name, Message& message) {
  FirstError errors;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(50);
  if (!parser.ParseFromString(text, &message)) {
    fail(Code::kUsage, name, ": ", explain(errors.text));
  }
}

std::vector<std::string> field_names(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

static std::string element_type(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return "int";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "unsigned int";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true|false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "group";
    case FieldDescriptor::CPPTYPE_ENUM:
      break;
  }
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names.push_back(field.enum_type()->value(i)->name());
  }
  return join(names, "|");
}

std::string type_name(const FieldDescriptor& field) {
  return field.is_repeated() ? "list of " + element_type(field) : element_type(field);
}

std::string range_of(const FieldDescriptor& field) { return field.options().GetExtension(range); }

std::string only_if_of(const FieldDescriptor& field) {
  return field.options().GetExtension(only_if);
}

bool is_free(const FieldDescriptor& field) { return field.options().GetExtension(free); }

bool is_basic(const FieldDescriptor& field) { return field.options().GetExtension(basic); }

bool in_range(const std::string& range, double value) {
  const size_t comma = range.find(',');
  LF_CHECK(range.size() >= 3 && comma != std::string::npos, "range ", range);
  const auto bound = [](std::string text, double missing) {
    text.erase(0, text.find_first_not_of(' '));
    double number = missing;
    LF_CHECK(text.empty() || parse(text, &number), "range bound ", text);
    return number;
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double low = bound(range.substr(1, comma - 1), -kInfinity);
  const double high = bound(range.substr(comma + 1, range.size() - comma - 2), kInfinity);
  return !std::isnan(value) && (range.front() == '[' ? value >= low : value > low) &&
         (range.back() == ']' ? value <= high : value < high);
}

// How many names of two paths are equal from the front.
static size_t shared_names(const std::string& a, const std::string& b) {
  const std::vector<std::string> x = split(a, '.'), y = split(b, '.');
  size_t shared = 0;
  while (shared < std::min(x.size(), y.size()) && x[shared] == y[shared]) ++shared;
  return shared;
}

std::string option_of_name(const std::string& path) {
  const auto last_name = [](const std::string& of) { return of.substr(of.rfind('.') + 1); };
  std::vector<std::string> same;
  for (const OptionDoc& option : document_options()) {
    if (last_name(option.path) == last_name(path)) same.push_back(option.path);
  }
  if (same.empty()) return "";
  std::stable_sort(same.begin(), same.end(), [&](const std::string& a, const std::string& b) {
    return shared_names(a, path) > shared_names(b, path);
  });
  const size_t best = shared_names(same.front(), path);
  std::erase_if(same, [&](const std::string& one) { return shared_names(one, path) < best; });
  constexpr size_t kShown = 3;
  if (same.size() > kShown) same.resize(kShown);
  return "'" + join(same, "' or '") + "'";
}

std::string nearest_option(const std::string& path) {
  const std::string same = option_of_name(path);
  if (!same.empty()) return ", did you mean " + same + "?";
  std::vector<std::string> known;
  for (const OptionDoc& option : document_options()) known.push_back(option.path);
  return did_you_mean(path, known);
}

// Calls `body` with the value as its C++ type.
template <typename Body>
static auto with_value(const Message& m, const FieldDescriptor& f, int i, Body&& body) {
  const Reflection* r = m.GetReflection();
  const bool list = f.is_repeated();
  switch (f.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return body(list ? r->GetRepeatedInt32(m, &f, i) : r->GetInt32(m, &f));
    case FieldDescriptor::CPPTYPE_INT64:
      return body(list ? r->GetRepeatedInt64(m, &f, i) : r->GetInt64(m, &f));
    case FieldDescriptor::CPPTYPE_UINT32:
      return body(list ? r->GetRepeatedUInt32(m, &f, i) : r->GetUInt32(m, &f));
    case FieldDescriptor::CPPTYPE_UINT64:
      return body(list ? r->GetRepeatedUInt64(m, &f, i) : r->GetUInt64(m, &f));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return body(list ? r->GetRepeatedFloat(m, &f, i) : r->GetFloat(m, &f));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return body(list ? r->GetRepeatedDouble(m, &f, i) : r->GetDouble(m, &f));
    case FieldDescriptor::CPPTYPE_BOOL:
      return body(list ? r->GetRepeatedBool(m, &f, i) : r->GetBool(m, &f));
    case FieldDescriptor::CPPTYPE_ENUM:
      return body(list ? r->GetRepeatedEnum(m, &f, i) : r->GetEnum(m, &f));
    case FieldDescriptor::CPPTYPE_STRING:
      return body(list ? r->GetRepeatedString(m, &f, i) : r->GetString(m, &f));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  LF_CHECK(false, "not a scalar: ", f.full_name());
}

double read_number(const Message& message, const FieldDescriptor& field, int index) {
  return with_value(message, field, index, [](const auto& value) -> double {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) {
      return static_cast<double>(value);
    } else {
      return 0;
    }
  });
}

std::string read_text(const Message& message, const FieldDescriptor& field, int index) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, &field, field.is_repeated() ? index : -1, &text);
  return text;
}

const Message& read_message(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection* reflection = message.GetReflection();
  return field.is_repeated() ? reflection->GetRepeatedMessage(message, &field, index)
                             : reflection->GetMessage(message, &field);
}

#define LF_WRITE_FIELD(Type, Name)                                                      \
  template <>                                                                           \
  void write_field(Message& message, const FieldDescriptor& field, const Type& value) { \
    const Reflection* reflection = message.GetReflection();                             \
    field.is_repeated() ? reflection->Add##Name(&message, &field, value)                \
                        : reflection->Set##Name(&message, &field, value);               \
  }
LF_WRITE_FIELD(int32_t, Int32)
LF_WRITE_FIELD(int64_t, Int64)
LF_WRITE_FIELD(uint32_t, UInt32)
LF_WRITE_FIELD(uint64_t, UInt64)
LF_WRITE_FIELD(float, Float)
LF_WRITE_FIELD(double, Double)
LF_WRITE_FIELD(bool, Bool)
LF_WRITE_FIELD(std::string, String)
#undef LF_WRITE_FIELD

template <>
void write_field(Message& message, const FieldDescriptor& field,
                 const EnumValueDescriptor* const& value) {
  const Reflection* reflection = message.GetReflection();
  field.is_repeated() ? reflection->AddEnum(&message, &field, value)
                      : reflection->SetEnum(&message, &field, value);
}

void copy_field(const Message& from, const FieldDescriptor* field, Message& to) {
  const Reflection* reflection = from.GetReflection();
  const int count = field->is_repeated() ? reflection->FieldSize(from, field) : 1;
  for (int i = 0; i < count; ++i) {
    if (field->message_type()) {
      to.GetReflection()->AddMessage(&to, field)->CopyFrom(read_message(from, *field, i));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      const EnumValueDescriptor* value = field->is_repeated()
                                             ? reflection->GetRepeatedEnum(from, field, i)
                                             : reflection->GetEnum(from, field);
      write_field(to, *field, value);
    } else {
      with_value(from, *field, i, [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (!std::is_same_v<T, const EnumValueDescriptor*>) {
          write_field<T>(to, *field, value);
        }
      });
    }
  }
}

}  // namespace lf
