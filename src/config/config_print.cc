// Printing of config.h: canonical text, JSON, differences, and documentation from the comments of
// run.proto (the build embeds its descriptor with source info).
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "config/config.h"
#include "config/meaning.h"
#include "config/reflect.h"
#include "sweep.pb.h"

extern "C" const char lf_run_descriptor_begin[];
extern "C" const char lf_run_descriptor_end[];

namespace lf {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// All groups, or only those named.
Config with_defaults(const Config& run, const std::vector<std::string>& groups = {}) {
  Config out = run;
  fill_in_defaults(out);
  if (groups.empty()) return out;
  for (const std::string& name : field_names(*Config::descriptor())) {
    if (std::find(groups.begin(), groups.end(), name) == groups.end()) {
      out.GetReflection()->ClearField(&out, Config::descriptor()->FindFieldByName(name));
    }
  }
  return out;
}

void json_message(Json& json, const Message& message);

void json_value(Json& json, const Message& message, const FieldDescriptor& field, int index) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      json_message(json, read_message(message, field, index));
      break;
    case FieldDescriptor::CPPTYPE_STRING: {
      const Reflection* r = message.GetReflection();
      json.value(field.is_repeated() ? r->GetRepeatedString(message, &field, index)
                                     : r->GetString(message, &field));
      break;
    }
    case FieldDescriptor::CPPTYPE_ENUM:
      json.value(read_text(message, field, index));
      break;
    default:
      json.raw(read_text(message, field, index));
  }
}

void json_message(Json& json, const Message& message) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  json.object([&] {
    for (const FieldDescriptor* field : present) {
      json.key(field->name());
      if (!field->is_repeated()) {
        json_value(json, message, *field, 0);
        continue;
      }
      json.array([&] {
        for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
          json_value(json, message, *field, i);
        }
      });
    }
  });
}

// Every leaf as "path" -> text; `fixed_only` leaves out options that a resumed run may change.
void leaves(const Message& message, const std::string& prefix, bool fixed_only,
            std::map<std::string, std::string>& out) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    if (fixed_only && is_free(*field)) continue;
    const std::string path = prefix + field->name();
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string at = field->is_repeated() ? str(path, "[", i, "]") : path;
      if (field->message_type()) {
        out[at] = "{}";  // an empty group differs from an unset one
        leaves(read_message(message, *field, i), at + ".", fixed_only, out);
      } else {
        out[at] = read_text(message, *field, i);
      }
    }
  }
}

std::map<std::string, std::string> leaves_of(const Config& run, bool fixed_only) {
  std::map<std::string, std::string> out;
  leaves(with_defaults(run), "", fixed_only, out);
  return out;
}

std::string text_of_field(const Message& message, const FieldDescriptor& field) {
  if (!field.is_repeated()) return field.message_type() ? "" : read_text(message, field, 0);
  const int count = message.GetReflection()->FieldSize(message, &field);
  std::vector<std::string> values;
  for (int i = 0; i < count && !field.message_type(); ++i) {
    values.push_back(read_text(message, field, i));
  }
  return field.message_type() ? str(count, " of them") : "[" + join(values, ", ") + "]";
}

// Texts stay: what a source is called is a default too.
void drop_defaults(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  const Message& none =
      *google::protobuf::MessageFactory::generated_factory()->GetPrototype(message.GetDescriptor());
  std::vector<const FieldDescriptor*> present;
  reflection.ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    if (field->is_repeated()) continue;
    bool idle = false;
    if (field->message_type() != nullptr) {
      Message& group = *reflection.MutableMessage(&message, field);
      drop_defaults(group);
      idle = field->containing_oneof() == nullptr && group.ByteSizeLong() == 0;
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
      idle = read_text(message, *field, 0) == read_text(none, *field, 0);
    }
    if (idle) reflection.ClearField(&message, field);
  }
}

void find_contradictions(const Message& asked, const Message& held, const std::string& prefix,
                         std::vector<Contradiction>& out) {
  std::vector<const FieldDescriptor*> present;
  asked.GetReflection()->ListFields(asked, &present);
  for (const FieldDescriptor* field : present) {
    const std::string path = prefix + field->name();
    if (const auto* oneof = field->containing_oneof()) {
      const auto* other = held.GetReflection()->GetOneofFieldDescriptor(held, oneof);
      if (other != field) {
        out.push_back({path, "set", other == nullptr ? "unset" : prefix + other->name()});
        continue;
      }
    }
    const std::string wanted = text_of_field(asked, *field), found = text_of_field(held, *field);
    if (!field->message_type() || (field->is_repeated() && wanted != found)) {
      if (wanted != found) out.push_back({path, wanted, found});
      continue;
    }
    const int count = field->is_repeated() ? asked.GetReflection()->FieldSize(asked, field) : 1;
    for (int i = 0; i < count; ++i) {
      find_contradictions(read_message(asked, *field, i), read_message(held, *field, i),
                          field->is_repeated() ? str(path, ".", i, ".") : path + ".", out);
    }
  }
}

// "lf.TrainConfig.batch" or "lf.Precision.BF16" for the path of a location in run.proto; "" for
// what is neither an option nor a value of one. Numbers are those of descriptor.proto: a file's
// messages 4 and enums 5, a message's fields 2 and enums 4, an enum's values 2.
std::string name_at(const google::protobuf::FileDescriptorProto& file,
                    const google::protobuf::SourceCodeInfo::Location& location) {
  const auto& path = location.path();
  const auto value_of = [](const google::protobuf::EnumDescriptorProto& type, int value) {
    return type.name() + "." + type.value(value).name();
  };
  if (path.size() == 4 && path[0] == 5 && path[2] == 2) {
    return "lf." + value_of(file.enum_type(path[1]), path[3]);
  }
  if (path.size() < 4 || path[0] != 4) return "";
  const auto& message = file.message_type(path[1]);
  const std::string prefix = "lf." + message.name() + ".";
  if (path.size() == 4 && path[2] == 2) return prefix + message.field(path[3]).name();
  if (path.size() == 6 && path[2] == 4 && path[4] == 2) {
    return prefix + value_of(message.enum_type(path[3]), path[5]);
  }
  return "";
}

// Name -> comment of the options and their values in run.proto, joined into one paragraph.
std::map<std::string, std::string> read_comments() {
  google::protobuf::FileDescriptorSet files;
  LF_CHECK(files.ParseFromArray(lf_run_descriptor_begin,
                                static_cast<int>(lf_run_descriptor_end - lf_run_descriptor_begin)));
  std::map<std::string, std::string> comments;
  for (const auto& file : files.file()) {
    if (file.package() != "lf") continue;
    for (const auto& location : file.source_code_info().location()) {
      const std::string name = name_at(file, location);
      if (name.empty()) continue;
      // Values have theirs behind them, or above if it is long.
      std::istringstream words(location.leading_comments() + location.trailing_comments());
      std::string text, word;
      while (words >> word) text += (text.empty() ? "" : " ") + word;
      comments[name] = text;
    }
  }
  return comments;
}

const std::string& comment_on(const std::string& name) {
  static const std::map<std::string, std::string> comments = read_comments();
  static const std::string none;
  const auto found = comments.find(name);
  return found == comments.end() ? none : found->second;
}

// Two conditions, either of which may be none, as one.
std::string both(const std::string& above, const std::string& own) {
  if (above.empty() || own.empty()) return above + own;
  const auto whole = [](const std::string& text) {
    return text.find(" or ") == std::string::npos ? text : "(" + text + ")";
  };
  return whole(above) + " and " + whole(own);
}

OptionDoc document_field(const Descriptor& type, const FieldDescriptor& field,
                         const std::string& path) {
  OptionDoc doc{path, type_name(field), "", range_of(field), comment_on(field.full_name())};
  doc.basic = is_basic(field);
  if (!field.is_repeated() && !field.message_type()) {
    const Message* prototype =
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(&type);
    doc.fallback = read_text(*prototype, field, 0);
  }
  if (const auto* names = field.enum_type()) {
    for (int i = 0; i < names->value_count(); ++i) {
      const std::string& name = names->value(i)->name();
      doc.values.push_back({name, comment_on(names->full_name() + "." + name)});
    }
  }
  return doc;
}

// `condition` is that of the groups the message stands in.
void document_message(const Descriptor& type, const std::string& prefix,
                      const std::string& condition, std::set<const Descriptor*> above,
                      const std::string& filter, std::vector<OptionDoc>& out) {
  if (!above.insert(&type).second) return;  // composites are recursive
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = prefix + field.name();
    const bool wanted = path.starts_with(filter) || filter.starts_with(path + ".");
    if (!wanted) continue;
    const std::string only_if = only_if_of(field);
    const std::string only_with =
        both(condition, only_if.empty() ? "" : condition_text(prefix, only_if));
    if (path.starts_with(filter) && (!field.message_type() || field.containing_oneof() ||
                                     field.is_repeated() || prefix.empty())) {
      out.push_back(document_field(type, field, path));
      out.back().only_with = only_with;
    }
    // Lists of groups are few in a run and documented there; a sweep is made of them.
    const bool of_run = above.contains(Config::descriptor());
    if (field.message_type() && (!field.is_repeated() || !of_run)) {
      document_message(*field.message_type(), path + ".", only_with, above, filter, out);
    }
  }
}

}  // namespace

void fill_in_defaults(Message& message) {
  const Descriptor* type = message.GetDescriptor();
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (field->is_repeated()) {
      if (!field->message_type()) continue;
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        fill_in_defaults(*reflection->MutableRepeatedMessage(&message, field, k));
      }
      continue;
    }
    const bool chosen = reflection->HasField(message, field);
    if (field->message_type()) {
      if (chosen || field->containing_oneof() == nullptr) {
        fill_in_defaults(*reflection->MutableMessage(&message, field));
      }
    } else if (!chosen && field->containing_oneof() == nullptr && field->has_default_value()) {
      copy_field(message, field, message);
    } else if (!chosen && field->containing_oneof() == nullptr && field->name() != "base" &&
               field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
      copy_field(message, field, message);
    }
  }
}

std::string print_config(const Config& run, const std::vector<std::string>& groups) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  printer.PrintToString(with_defaults(run, groups), &text);
  return text;
}

std::string config_json(const Config& run, const std::vector<std::string>& groups) {
  Json json;
  json_message(json, with_defaults(run, groups));
  return json.text();
}

std::string changed_options_text(const Message& group) {
  const std::unique_ptr<Message> copy(group.New());
  copy->CopyFrom(group);
  drop_defaults(*copy);
  return copy->ShortDebugString();
}

std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            bool leave_out_free) {
  const auto old_values = leaves_of(before, leave_out_free);
  const auto new_values = leaves_of(after, leave_out_free);
  std::vector<std::string> lines;
  std::string group;  // that only one of them has, and with it all below
  const auto lacks = [&](const auto& values, const std::string& path) {
    if (values.contains(path)) return false;
    const bool told = !group.empty() && path.starts_with(group + ".");
    if (!told) group = path;
    return !told;
  };
  for (const auto& [path, value] : old_values) {
    const auto other = new_values.find(path);
    if (lacks(new_values, path)) lines.push_back(str(path, ": ", value, " -> (unset)"));
    if (other != new_values.end() && other->second != value) {
      lines.push_back(str(path, ": ", value, " -> ", other->second));
    }
  }
  group.clear();
  for (const auto& [path, value] : new_values) {
    if (lacks(old_values, path)) lines.push_back(str(path, ": (unset) -> ", value));
  }
  return lines;
}

std::vector<Contradiction> contradictions(const Config& asked, const Config& held) {
  std::vector<Contradiction> out;
  find_contradictions(asked, held, "", out);
  return out;
}

std::map<std::string, std::string> departures(const Config& run) {
  Config copy = run;
  drop_defaults(copy);
  std::map<std::string, std::string> out;
  leaves(copy, "", false, out);
  return out;
}

uint64_t config_fingerprint(const Config& run) {
  uint64_t hash = kFnvBasis;  // over the lines "path=value\n", which are sorted
  for (const auto& [path, value] : leaves_of(run, true)) {
    hash = fnv1a(path + "=" + value + "\n", hash);
  }
  return hash;
}

std::vector<OptionDoc> document_options(const std::string& prefix) {
  std::vector<OptionDoc> out;
  document_message(*Config::descriptor(), "", "", {}, prefix, out);
  return out;
}

std::vector<OptionDoc> document_sweep() {
  std::vector<OptionDoc> out;
  document_message(*Sweep::descriptor(), "", "", {}, "", out);
  return out;
}

}  // namespace lf
