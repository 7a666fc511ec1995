#include "checkpoint/tensors.h"

#include <ATen/ops/empty.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/error.h"
#include "base/text.h"

namespace lf {
namespace {

bool dtype_of(at::ScalarType type, DType* dtype) {
  switch (type) {
    case at::kDouble:
      *dtype = DType::kF64;
      return true;
    case at::kFloat:
      *dtype = DType::kF32;
      return true;
    case at::kHalf:
      *dtype = DType::kF16;
      return true;
    case at::kBFloat16:
      *dtype = DType::kBF16;
      return true;
    case at::kLong:
      *dtype = DType::kI64;
      return true;
    case at::kInt:
      *dtype = DType::kI32;
      return true;
    case at::kShort:
      *dtype = DType::kI16;
      return true;
    case at::kChar:
      *dtype = DType::kI8;
      return true;
    case at::kByte:
      *dtype = DType::kU8;
      return true;
    case at::kBool:
      *dtype = DType::kBool;
      return true;
    default:
      return false;
  }
}

// "'a', 'b' and 3 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kShown));
  std::string text = join(shown, ", ");
  if (names.size() > kShown) text += str(" and ", names.size() - kShown, " more");
  return text;
}

// Copies elements of N bytes in row-major order from where the strides put them.
template <size_t N>
char* gather(char* out, const char* in, at::IntArrayRef shape, at::IntArrayRef strides) {
  if (shape.empty()) {
    std::memcpy(out, in, N);
    return out + N;
  }
  const int64_t step = strides[0] * static_cast<int64_t>(N);
  for (int64_t i = 0; i < shape[0]; ++i, in += step) {
    if (shape.size() > 1) {
      out = gather<N>(out, in, shape.slice(1), strides.slice(1));
    } else {
      std::memcpy(out, in, N);
      out += N;
    }
  }
  return out;
}

// Merges adjacent dimensions whose strides make them one: a channels-last 3x3 kernel is then copied
// in runs of nine.
void collapse(std::vector<int64_t>& shape, std::vector<int64_t>& strides) {
  for (size_t d = shape.size(); d-- > 1;) {
    if (strides[d - 1] != shape[d] * strides[d]) continue;
    shape[d - 1] *= shape[d];
    strides[d - 1] = strides[d];
    shape.erase(shape.begin() + static_cast<int64_t>(d));
    strides.erase(strides.begin() + static_cast<int64_t>(d));
  }
}

// The tensor's bytes row-major: its own, or rearranged into `scratch`. Without ATen: this runs in
// the background of training and must not wake a second pool of threads.
const void* row_major(const HostTensor& tensor, std::vector<char>& scratch) {
  if (tensor.strides.empty()) return tensor.bytes;
  scratch.resize(tensor.layout.bytes());
  const auto* in = static_cast<const char*>(tensor.bytes);
  std::vector<int64_t> shape(tensor.layout.shape.begin(), tensor.layout.shape.end());
  std::vector<int64_t> strides = tensor.strides;
  collapse(shape, strides);
  switch (size_of(tensor.layout.dtype)) {
    case 1:
      gather<1>(scratch.data(), in, shape, strides);
      break;
    case 2:
      gather<2>(scratch.data(), in, shape, strides);
      break;
    case 4:
      gather<4>(scratch.data(), in, shape, strides);
      break;
    default:
      gather<8>(scratch.data(), in, shape, strides);
      break;
  }
  return scratch.data();
}

}  // namespace

TensorLayout layout_of(const NamedTensor& named) {
  TensorLayout layout{named.name, DType::kF32, named.tensor.sizes().vec()};
  if (named.tensor.layout() != at::kStrided ||
      !dtype_of(named.tensor.scalar_type(), &layout.dtype)) {
    fail(Code::kUsage, "the tensor '", printable(named.name), "' is ",
         c10::toString(named.tensor.scalar_type()),
         " or sparse, which cannot be saved; save it as float32 or int64");
  }
  return layout;
}

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
  }
  LF_CHECK(false, "unknown dtype ", static_cast<int>(dtype));
  return at::kFloat;
}

CheckpointFile write_tensor_file(FileSystem& files, const std::string& folder,
                                 const std::string& name, const std::string& kind,
                                 const std::vector<HostTensor>& tensors) {
  std::vector<TensorLayout> layouts;
  std::map<std::string_view, const HostTensor*> by_name;
  for (const HostTensor& tensor : tensors) {
    layouts.push_back(tensor.layout);
    by_name[tensor.layout.name] = &tensor;
  }
  SafetensorsWriter writer(files, folder + "/" + name, std::move(layouts),
                           {{"format", "pt"}, {"kind", kind}, {"producer", "lastframe"}});
  CheckpointFile record;
  record.set_name(name);
  record.set_kind(kind);
  std::vector<char> scratch;
  for (const TensorLayout& layout : writer.layouts()) {
    CheckpointTensor& tensor = *record.add_tensor();
    tensor.set_name(layout.name);
    tensor.set_dtype(name_of(layout.dtype));
    tensor.mutable_shape()->Add(layout.shape.begin(), layout.shape.end());
    tensor.set_crc32c(writer.write(row_major(*by_name.at(layout.name), scratch)));
  }
  const SafetensorsWriter::Written written = writer.finish();
  record.set_bytes(written.bytes);
  record.set_crc32c(written.crc32c);
  return record;
}

std::string differences(const std::vector<TensorLayout>& asked,
                        const std::vector<TensorLayout>& found) {
  std::map<std::string_view, const TensorLayout*> there;
  for (const TensorLayout& layout : found) there.emplace(layout.name, &layout);
  std::vector<std::string> missing, changed, unexpected;
  for (const TensorLayout& want : asked) {
    const auto match = there.find(want.name);
    if (match == there.end()) {
      missing.push_back(str("'", printable(want.name), "' ", describe(want)));
      continue;
    }
    const TensorLayout& have = *match->second;
    if (have.shape != want.shape || have.dtype != want.dtype) {
      changed.push_back(str("'", printable(want.name), "' is ", describe(have), " there, ",
                            describe(want), " here"));
    }
    there.erase(match);
  }
  for (const auto& [name, layout] : there) {
    unexpected.push_back(str("'", printable(name), "' ", describe(*layout)));
  }
  std::vector<std::string> facts;
  if (!missing.empty()) facts.push_back("it lacks " + some_of(missing));
  if (!changed.empty()) facts.push_back(some_of(changed));
  if (!unexpected.empty()) facts.push_back("it also holds " + some_of(unexpected));
  return join(facts, "; ");
}

void require_same(const std::string& where, const std::vector<TensorLayout>& asked,
                  const std::vector<TensorLayout>& found) {
  const std::string facts = differences(asked, found);
  if (facts.empty()) return;
  fail(Code::kCheckpoint, where, " does not fit the model: ", facts,
       "; use the config it was made with");
}

uint32_t read_tensor_into(const SafetensorsFile& file, const TensorEntry& entry,
                          const at::Tensor& into) {
  LF_CHECK(into.scalar_type() == scalar_type(entry.layout.dtype) &&
               into.sizes() == at::IntArrayRef(entry.layout.shape),
           "another shape or type: ", entry.layout.name);
  if (into.is_contiguous() && into.device().is_cpu())
    return file.read(entry, into.mutable_data_ptr());
  uint32_t crc = 0;
  const at::Tensor host = read_tensor(file, entry, &crc);
  // Values only: neither the graph nor the version counter of a weight has to know.
  into.detach().copy_(host);
  return crc;
}

at::Tensor read_tensor(const SafetensorsFile& file, const TensorEntry& entry, uint32_t* crc32c) {
  at::Tensor host =
      at::empty(entry.layout.shape, at::TensorOptions(scalar_type(entry.layout.dtype)));
  const uint32_t crc = file.read(entry, host.mutable_data_ptr());
  if (crc32c != nullptr) *crc32c = crc;
  return host;
}

void publish_tensor_file(FileSystem& files, const std::string& out,
                         const std::vector<TensorLayout>& layouts, const TensorMetadata& metadata,
                         const std::function<at::Tensor(const TensorLayout&)>& tensor) {
  const std::string hidden = str(out, ".tmp-", ::getpid());
  try {
    SafetensorsWriter writer(files, hidden, layouts, metadata);
    for (const TensorLayout& layout : writer.layouts()) {
      const at::Tensor value = tensor(layout);
      writer.write(value.const_data_ptr());
    }
    writer.finish();
  } catch (const Error&) {
    files.remove(hidden);
    throw;
  }
  files.rename(hidden, out);
  files.sync_folder(parent_folder(out));
}

void publish_tensor_file(FileSystem& files, const std::string& out, const LoadableTensors& tensors,
                         const TensorMetadata& metadata) {
  publish_tensor_file(files, out, tensors.layouts, metadata,
                      [&](const TensorLayout& layout) { return tensors.load(layout.name); });
}

std::vector<NamedTensor> read_tensors(const SafetensorsFile& file) {
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : file.tensors()) {
    tensors.push_back({entry.layout.name, read_tensor(file, entry)});
  }
  return tensors;
}

std::vector<NamedTensor> load_tensor_file(FileSystem& files, const std::string& path) {
  return read_tensors(SafetensorsFile(files, path));
}

void load_tensor_file_into(FileSystem& files, const std::string& path,
                           const std::vector<NamedTensor>& tensors) {
  const SafetensorsFile file(files, path);
  std::vector<TensorLayout> asked, found;
  for (const NamedTensor& named : tensors) asked.push_back(layout_of(named));
  for (const TensorEntry& entry : file.tensors()) found.push_back(entry.layout);
  require_same(printable(path), asked, found);
  for (const NamedTensor& named : tensors) {
    read_tensor_into(file, *file.find(named.name), named.tensor);
  }
}

}  // namespace lf
