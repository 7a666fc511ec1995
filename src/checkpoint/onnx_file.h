// ONNX files: their bytes within bounds, and their graph checked before anything computes with it.
// Knows no torch and no operator: model/extractors/onnx.h runs the graph.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "onnx.pb.h"

namespace lf {

// Whether a file is called so: the format has no mark by which its bytes could be told.
inline bool is_onnx(std::string_view path) { return path.ends_with(".onnx"); }

// What holds of a graph that was read:
// - one opset of the default domain, kOldestOpset to kNewestOpset, and no node of another domain;
// - every node has outputs, and its inputs are those of the graph, initializers or outputs of nodes
//   before it ("" is an input that is not given), so that there is no cycle;
// - no two values or attributes of a node have one name; subgraphs and functions there are none;
// - one input that is no initializer, and outputs that a node makes;
// - a tensor is of a type that TensorProto names, and its values are in the file, as many as its
//   extents say, in one field.
// Anything else is Code::kCheckpoint naming `path`, as are files of 2 GiB or more and those whose
// parts other than values exceed 16 MiB, of which a parse takes many times their bytes.
onnx::ModelProto parse_onnx(std::string_view bytes, const std::string& path);
onnx::ModelProto read_onnx(FileSystem& files, const std::string& path);

inline constexpr int64_t kOldestOpset = 7, kNewestOpset = 28;

}  // namespace lf
