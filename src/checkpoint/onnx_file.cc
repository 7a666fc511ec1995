#include "checkpoint/onnx_file.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <set>

#include "base/error.h"

namespace lf {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using onnx::GraphProto;
using onnx::NodeProto;
using onnx::TensorProto;

constexpr uint64_t kMostBytes = (uint64_t{1} << 31) - 1;  // Protobuf's
constexpr int64_t kMostPartBytes = int64_t{16} << 20;
constexpr int kMostDimensions = 8;
constexpr int64_t kMostElements = int64_t{1} << 40;

// Messages that are looked into before they are parsed.
enum class Part { kModel, kGraph, kNode, kAttribute, kTensor, kOther };

Part part_of(Part parent, int field) {
  switch (parent) {
    case Part::kModel:
      return field == 7 ? Part::kGraph : Part::kOther;
    case Part::kGraph:
      return field == 1 ? Part::kNode : field == 5 ? Part::kTensor : Part::kOther;
    case Part::kNode:
      return field == 5 ? Part::kAttribute : Part::kOther;
    case Part::kAttribute:
      return field == 5 ? Part::kTensor : Part::kOther;
    case Part::kTensor:
    case Part::kOther:
      return Part::kOther;
  }
  return Part::kOther;
}

// The values of a tensor take eight times their bytes at the most.
bool holds_values(Part parent, int field) {
  return parent == Part::kTensor &&
         (field == 4 || field == 5 || field == 7 || field == 9 || field == 10);
}

// Adds the bytes of all but values; false if this is no message.
bool add_part_bytes(CodedInputStream& in, Part part, int64_t* bytes) {
  while (const uint32_t tag = in.ReadTag()) {
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    const auto type = WireFormatLite::GetTagWireType(tag);
    if (field < 1) return false;
    if (type != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      *bytes += 4;
      // Groups are of no version of the format.
      if (type > WireFormatLite::WIRETYPE_FIXED64 && type != WireFormatLite::WIRETYPE_FIXED32) {
        return false;
      }
      if (!WireFormatLite::SkipField(&in, tag)) return false;
      continue;
    }
    int size = 0;
    if (!in.ReadVarintSizeAsInt(&size)) return false;
    *bytes += 4;
    const Part child = part_of(part, field);
    if (child == Part::kOther) {
      if (!holds_values(part, field)) *bytes += size;
      if (!in.Skip(size)) return false;
      continue;
    }
    const auto limit = in.PushLimit(size);
    if (!add_part_bytes(in, child, bytes) || in.BytesUntilLimit() != 0) return false;
    in.PopLimit(limit);
  }
  return in.ConsumedEntireMessage();
}

class Checker {
 public:
  explicit Checker(const std::string& path) : path_(path) {}

  void check_model(const onnx::ModelProto& model) {
    if (!model.has_graph()) refuse("has no graph; use a whole ONNX file");
    check_opset(model);
    if (model.functions_size() > 0) {
      refuse("defines functions of its own; export it with standard operators only");
    }
    check_graph(model.graph());
  }

 private:
  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kCheckpoint, printable(path_), " ", parts...);
  }

  void check_opset(const onnx::ModelProto& model) const {
    int64_t version = 0;
    for (const onnx::OperatorSetIdProto& opset : model.opset_import()) {
      if (is_default(opset.domain())) version = opset.version();
    }
    if (version >= kOldestOpset && version <= kNewestOpset) return;
    refuse("is of opset ", version, ", expected ", kOldestOpset, " to ", kNewestOpset,
           "; export it with opset_version=17");
  }

  static bool is_default(const std::string& domain) {
    return domain.empty() || domain == "ai.onnx";
  }

  void check_graph(const GraphProto& graph) {
    if (graph.sparse_initializer_size() > 0) {
      refuse("holds sparse tensors; export it with plain ones");
    }
    for (const TensorProto& tensor : graph.initializer()) {
      const std::string name = str("tensor '", printable(tensor.name()), "'");
      check_tensor(tensor, name);
      add_value(tensor.name(), name);
    }
    std::vector<std::string> inputs;
    for (const onnx::ValueInfoProto& input : graph.input()) {
      if (known_.contains(input.name())) continue;  // an initializer that may be overridden
      inputs.push_back(printable(input.name()));
      add_value(input.name(), str("input '", printable(input.name()), "'"));
    }
    if (inputs.size() != 1) {
      refuse("has ", inputs.size(), " inputs", inputs.empty() ? "" : ": ", join(inputs, ", "),
             "; expected one, the images");
    }
    for (const NodeProto& node : graph.node()) {
      for (const std::string& output : node.output()) later_.insert(output);
    }
    for (int i = 0; i < graph.node_size(); ++i) check_node(graph.node(i), i);
    if (graph.output_size() == 0) refuse("has no outputs; use a whole ONNX file");
    for (const onnx::ValueInfoProto& output : graph.output()) {
      if (known_.contains(output.name())) continue;
      refuse("has the output '", printable(output.name()), "', which no node makes; ",
             "use another copy of it");
    }
  }

  void check_node(const NodeProto& node, int number) {
    const std::string name = str("node ", number, " (", printable(node.op_type()), ")");
    if (!is_default(node.domain())) {
      refuse(name, " is an operator of ", printable(node.domain()),
             "; export the network with standard operators only");
    }
    for (const std::string& input : node.input()) {
      if (input.empty() || known_.contains(input)) continue;
      if (later_.contains(input)) {
        refuse(name, " needs '", printable(input),
               "', which a later node makes: the graph has a cycle, or its nodes are out of order");
      }
      refuse(name, " needs '", printable(input), "', which nothing makes; use another copy of it");
    }
    std::set<std::string> attributes;
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (!attributes.insert(attribute.name()).second) {
        refuse(name, " has the attribute ", printable(attribute.name()), " twice");
      }
      if (attribute.has_g() || attribute.has_ref_attr_name()) {
        refuse(name, " has a subgraph; export the network without control flow");
      }
      if (attribute.has_t()) {
        check_tensor(attribute.t(), str("the tensor of ", name));
      }
    }
    if (node.output_size() == 0) refuse(name, " has no output");
    for (const std::string& output : node.output()) {
      if (!output.empty()) add_value(output, name);
    }
  }

  void add_value(const std::string& name, const std::string& owner) {
    if (name.empty()) refuse(owner, " has no name; use another copy of it");
    if (known_.insert(name).second) return;
    refuse(owner, " makes '", printable(name), "', which is there already; use another copy of it");
  }

  void check_tensor(const TensorProto& tensor, const std::string& name) const {
    if (tensor.data_location() != 0) {
      refuse(name, " lies in another file; save the network as one file");
    }
    if (tensor.dims_size() > kMostDimensions) {
      refuse(name, " has ", tensor.dims_size(), " extents, expected at most ", kMostDimensions);
    }
    int64_t elements = 1;
    for (const int64_t extent : tensor.dims()) {
      if (extent < 0 || (extent > 0 && elements > kMostElements / extent)) {
        refuse(name, " has an extent of ", extent, "; use another copy of it");
      }
      elements *= extent;
    }
    const int64_t found = elements_in(tensor, name);
    if (found == elements) return;
    refuse(name, " has ", found, " values, its extents say ", elements, "; use another copy of it");
  }

  int64_t elements_in(const TensorProto& tensor, const std::string& name) const {
    int64_t bytes = 0, in_field = 0;  // of an element; values in the field of its type
    switch (tensor.data_type()) {
      case TensorProto::FLOAT:
        bytes = 4, in_field = tensor.float_data_size();
        break;
      case TensorProto::INT32:
        bytes = 4, in_field = tensor.int32_data_size();
        break;
      case TensorProto::BOOL:
        bytes = 1, in_field = tensor.int32_data_size();
        break;
      case TensorProto::FLOAT16:
        bytes = 2, in_field = tensor.int32_data_size();
        break;
      case TensorProto::INT64:
        bytes = 8, in_field = tensor.int64_data_size();
        break;
      case TensorProto::DOUBLE:
        bytes = 8, in_field = tensor.double_data_size();
        break;
      default:
        refuse(name, " is of ONNX's type ", tensor.data_type(),
               ", expected float, double, float16, int32, int64 or bool; export the network in "
               "float32, not quantised");
    }
    if (!tensor.has_raw_data()) return in_field;
    const auto size = static_cast<int64_t>(tensor.raw_data().size());
    if (in_field > 0 || size % bytes != 0) {
      refuse(name, " has ", size, " bytes of values of ", bytes, " bytes",
             in_field > 0 ? " and others beside them" : "", "; use another copy of it");
    }
    return size / bytes;
  }

  const std::string& path_;
  std::set<std::string> known_, later_;
};

}  // namespace

onnx::ModelProto parse_onnx(std::string_view bytes, const std::string& path) {
  if (bytes.size() > kMostBytes) {
    fail(Code::kCheckpoint, printable(path), " has ", human_bytes(bytes.size()),
         ", expected less than 2 GiB");
  }
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto size = static_cast<int>(bytes.size());
  int64_t parts = 0;
  CodedInputStream scanned(data, size);
  const bool is_message = size > 0 && add_part_bytes(scanned, Part::kModel, &parts);
  if (is_message && parts > kMostPartBytes) {
    fail(Code::kCheckpoint, printable(path), " has ", human_bytes(static_cast<uint64_t>(parts)),
         " beside the values of its tensors, expected at most ", human_bytes(kMostPartBytes),
         "; it is no convolutional network");
  }
  onnx::ModelProto model;
  CodedInputStream in(data, size);
  if (!is_message || !model.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage()) {
    fail(Code::kCheckpoint, printable(path), " is no ONNX file that can be read; ",
         "it is damaged or of another format");
  }
  Checker(path).check_model(model);
  return model;
}

onnx::ModelProto read_onnx(FileSystem& files, const std::string& path) {
  return parse_onnx(read_file(files, path, kMostBytes), path);
}

}  // namespace lf
