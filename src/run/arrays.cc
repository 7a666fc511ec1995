#include "run/arrays.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/formats/npy.h"
#include "data/formats/npz.h"

namespace lf {
namespace {

constexpr uint64_t kLargestArchive = uint64_t{4} << 30;

struct NpyElement {
  const char* type;  // as NumPy writes it, without the byte order
  at::ScalarType scalar;
};
constexpr NpyElement kElements[] = {{"b1", at::kBool},  {"u1", at::kByte},  {"i1", at::kChar},
                                    {"i2", at::kShort}, {"i4", at::kInt},   {"i8", at::kLong},
                                    {"f2", at::kHalf},  {"f4", at::kFloat}, {"f8", at::kDouble}};

at::Tensor empty_like_header(const NpyHeader& header, const std::string& name) {
  const std::string type = header.type.substr(header.type.find_first_of("biufc"));
  const std::vector<int64_t> shape(header.shape.begin(), header.shape.end());
  for (const NpyElement& element : kElements) {
    if (type == element.type && header.type.front() != '>') return at::empty(shape, element.scalar);
  }
  fail(Code::kData, name, ": elements of type '", printable(header.type, 40),
       "', expected little-endian bytes, integers or floats; save array.astype('<f4')");
}

std::string npy_bytes(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.to(at::kCPU).contiguous();
  std::string type;
  for (const NpyElement& element : kElements) {
    if (element.scalar == dense.scalar_type()) type = element.type;
  }
  LF_CHECK(!type.empty(), "a tensor of type ", toString(dense.scalar_type()));
  std::string out = npy_header((type.back() == '1' ? "|" : "<") + type,
                               {dense.sizes().begin(), dense.sizes().end()});
  return out.append(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
}

}  // namespace

at::Tensor load_npy(const std::string& path) {
  const std::string name = printable(path);
  const std::unique_ptr<InFile> file = real_file_system().open_read(path);
  std::vector<uint8_t> begin(std::min<uint64_t>(file->size(), kNpyHeaderBytes));
  file->read(0, begin.data(), begin.size());
  const NpyHeader header = parse_npy_header(begin, file->size(), name);
  at::Tensor out = empty_like_header(header, name);
  file->read(header.data_offset, out.mutable_data_ptr(), out.nbytes());
  return out;
}

TensorsByName load_npz(const std::string& path) {
  const std::string name = printable(path);
  const std::string archive = read_file(real_file_system(), path, kLargestArchive);
  TensorsByName arrays;
  for (const auto& [member, bytes] :
       unpack_npz({reinterpret_cast<const uint8_t*>(archive.data()), archive.size()},
                  kLargestArchive, name)) {
    const std::span data(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const std::string what = name + ": " + printable(member, 60);
    const NpyHeader header = parse_npy_header(
        data.first(std::min<size_t>(data.size(), kNpyHeaderBytes)), data.size(), what);
    at::Tensor& out = arrays[member] = empty_like_header(header, what);
    std::memcpy(out.mutable_data_ptr(), data.data() + header.data_offset, out.nbytes());
  }
  return arrays;
}

void save_npz(const TensorsByName& arrays, const std::string& path) {
  std::map<std::string, std::string> members;
  for (const auto& [name, tensor] : arrays) members[name] = npy_bytes(tensor);
  publish_file(real_file_system(), path, pack_npz(members));
}

}  // namespace lf
