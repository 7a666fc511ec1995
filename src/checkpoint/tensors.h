// Named torch tensors in safetensors files: types, strict comparison of expected with found
// tensors, reading and writing.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "base/named_tensor.h"
#include "checkpoint/safetensors.h"
#include "record.pb.h"

namespace lf {

// Code::kUsage, naming the tensor, for a type the format or we do not know (complex, quantised).
TensorLayout layout_of(const NamedTensor& named);
at::ScalarType scalar_type(DType dtype);

// A tensor in host memory.
struct HostTensor {
  TensorLayout layout;
  const void* bytes = nullptr;
  std::vector<int64_t> strides;  // in elements; empty: row-major
};

// Writes and syncs one file; returns its record for the manifest.
CheckpointFile write_tensor_file(FileSystem& files, const std::string& folder,
                                 const std::string& name, const std::string& kind,
                                 const std::vector<HostTensor>& tensors);

// How the tensors found differ from those expected, as clauses joined by "; ": all that are
// missing, unexpected, of another shape or of another type. "": not at all.
std::string differences(const std::vector<TensorLayout>& asked,
                        const std::vector<TensorLayout>& found);

// Compares the tensors expected with those found: one Code::kCheckpoint message, beginning with
// `where`, lists all that are missing, unexpected, of another shape or of another type.
void require_same(const std::string& where, const std::vector<TensorLayout>& asked,
                  const std::vector<TensorLayout>& found);

// The tensor on the host; with *crc32c its bytes' checksum.
at::Tensor read_tensor(const SafetensorsFile& file, const TensorEntry& entry,
                       uint32_t* crc32c = nullptr);
// Into a tensor of equal shape and type, on any device, of any strides. Returns the bytes'
// checksum.
uint32_t read_tensor_into(const SafetensorsFile& file, const TensorEntry& entry,
                          const at::Tensor& into);

// One file for other programs at OUT, which appears whole or not at all. Tensors are asked for one
// at a time, so that no more than one is in memory.
void publish_tensor_file(FileSystem& files, const std::string& out,
                         const std::vector<TensorLayout>& layouts, const TensorMetadata& metadata,
                         const std::function<at::Tensor(const TensorLayout&)>& tensor);

// Tensors that are loaded one at a time, by name.
struct LoadableTensors {
  std::vector<TensorLayout> layouts;
  std::function<at::Tensor(const std::string& name)> load;
};
void publish_tensor_file(FileSystem& files, const std::string& out, const LoadableTensors& tensors,
                         const TensorMetadata& metadata);

// All tensors of a file, in its order; or strictly into tensors that must be exactly those.
std::vector<NamedTensor> read_tensors(const SafetensorsFile& file);
std::vector<NamedTensor> load_tensor_file(FileSystem& files, const std::string& path);
void load_tensor_file_into(FileSystem& files, const std::string& path,
                           const std::vector<NamedTensor>& tensors);

}  // namespace lf
