// Typed access to protobuf fields by reflection, and to the annotations of option.proto.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>
#include <vector>

namespace lf {

using google::protobuf::FieldDescriptor;

// Parses text format in place of what the message held. Throws Code::kUsage: `name`, the first
// error, and for an unknown name the nearest.
void parse_message(const std::string& text, const std::string& name,
                   google::protobuf::Message& message);

std::vector<std::string> field_names(const google::protobuf::Descriptor& type);
std::string type_name(const FieldDescriptor& field);  // "int", "number", "FP32|BF16", "list of ..."
std::string range_of(const FieldDescriptor& field);   // "": any value
bool in_range(const std::string& range, double value);
bool is_free(const FieldDescriptor& field);
bool is_basic(const FieldDescriptor& field);
std::string only_if_of(const FieldDescriptor& field);  // "": always

// Element `index` of a list, or the value (the default if unset).
double read_number(const google::protobuf::Message& message, const FieldDescriptor& field,
                   int index);
std::string read_text(const google::protobuf::Message& message, const FieldDescriptor& field,
                      int index);
const google::protobuf::Message& read_message(const google::protobuf::Message& message,
                                              const FieldDescriptor& field, int index);

// Sets a single value, or appends to a list.
template <typename T>
void write_field(google::protobuf::Message& message, const FieldDescriptor& field, const T& value);

// Copies a scalar, or appends the elements of a list.
void copy_field(const google::protobuf::Message& from, const FieldDescriptor* field,
                google::protobuf::Message& to);

}  // namespace lf
