#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/file_hash.h"
#include "base/json.h"
#include "base/text.h"

namespace lf {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored in memory order");

constexpr uint64_t kMostHeaderBytes = 100'000'000;  // what Python's safetensors allows
constexpr size_t kPiece = 4 << 20;  // fits the cache for its checksum; large enough for a write

struct DTypeRow {
  DType dtype;
  const char* name;
  size_t size;
};
constexpr std::array<DTypeRow, 10> kDTypes = {{{DType::kF64, "F64", 8},
                                               {DType::kF32, "F32", 4},
                                               {DType::kF16, "F16", 2},
                                               {DType::kBF16, "BF16", 2},
                                               {DType::kI64, "I64", 8},
                                               {DType::kI32, "I32", 4},
                                               {DType::kI16, "I16", 2},
                                               {DType::kI8, "I8", 1},
                                               {DType::kU8, "U8", 1},
                                               {DType::kBool, "BOOL", 1}}};

// Opening and reading fail with the codes of base/file; here all of it means that a checkpoint
// cannot be used.
template <typename Body>
auto as_checkpoint(Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Error(Code::kCheckpoint, error.what());
  }
}

// `start`: the first nine bytes. A header's length may well begin with the bytes of a pickle (0x280
// is 80 02), but then the header's brace follows it.
void refuse_pickle(std::string_view start, const std::string& path) {
  if (start.size() > 8 && start[8] == '{') return;
  const bool zip = start.starts_with("PK\x03\x04");
  const bool pickle = start.size() >= 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5;
  if (!zip && !pickle) return;
  fail(Code::kCheckpoint, printable(path),
       " is a pickle (a .pt, .pth or .ckpt of PyTorch); those can run code and are never parsed "
       "here, convert it in Python: safetensors.torch.save_file(torch.load('",
       printable(path), "', weights_only=True, map_location='cpu'), 'weights.safetensors')");
}

}  // namespace

const char* name_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }
size_t size_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }
bool is_float(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

bool parse_dtype(std::string_view name, DType* dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) {
      *dtype = row.dtype;
      return true;
    }
  }
  return false;
}

uint64_t TensorLayout::bytes() const {
  uint64_t bytes = size_of(dtype);
  for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
  return bytes;
}

std::string describe(const TensorLayout& layout) {
  std::vector<std::string> extents;
  for (const int64_t extent : layout.shape) extents.push_back(std::to_string(extent));
  return str(name_of(layout.dtype), " [", join(extents, ", "), "]");
}

// --- reading -------------------------------------------------------------------------------------

SafetensorsFile::SafetensorsFile(FileSystem& files, const std::string& path) : path_(path) {
  in_ = as_checkpoint([&] { return files.open_read(path); });
  const uint64_t size = in_->size();
  std::array<char, 9> start{};
  const size_t there = std::min<uint64_t>(size, start.size());
  as_checkpoint([&] { in_->read(0, start.data(), there); });
  refuse_pickle({start.data(), there}, path);
  if (size < 8) {
    fail(Code::kCheckpoint, printable(path), " has ", size,
         " bytes, a safetensors file has at least 8; truncated? use another copy of it");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, start.data(), 8);
  if (header_bytes > kMostHeaderBytes || header_bytes > size - 8) {
    fail(Code::kCheckpoint, printable(path), " claims a header of ", header_bytes,
         " bytes, at most ", std::min(kMostHeaderBytes, size - 8),
         " can be right; it is truncated, damaged or no safetensors file, use another copy of it");
  }
  std::string json(header_bytes, '\0');
  as_checkpoint([&] { in_->read(8, json.data(), json.size()); });
  header_ = parse_safetensors_header(json, size - 8 - header_bytes, path);
  for (size_t i = 0; i < header_.tensors.size(); ++i) {
    header_.tensors[i].begin += 8 + header_bytes;
    by_name_.emplace(header_.tensors[i].layout.name, i);
  }
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &header_.tensors[found->second];
}

uint32_t SafetensorsFile::read(const TensorEntry& entry, void* into) const {
  auto* out = static_cast<char*>(into);
  uint64_t offset = entry.begin;
  uint32_t crc = 0;
  for (uint64_t left = entry.layout.bytes(); left > 0;) {
    const size_t piece = std::min<uint64_t>(left, kPiece);
    as_checkpoint([&] { in_->read(offset, out, piece); });
    crc = crc32c(out, piece, crc);
    out += piece;
    offset += piece;
    left -= piece;
  }
  if (entry.layout.dtype == DType::kBool) {
    const auto* bytes = static_cast<const unsigned char*>(into);
    if (std::any_of(bytes, bytes + entry.layout.bytes(), [](unsigned char b) { return b > 1; })) {
      fail(Code::kCheckpoint, printable(path_), ": the BOOL tensor '", printable(entry.layout.name),
           "' holds values other than 0 and 1; use another copy");
    }
  }
  return crc;
}

uint32_t crc32c_of_file(FileSystem& files, const std::string& path) {
  return as_checkpoint([&] { return crc32c_of(*files.open_read(path)); });
}

// --- writing -------------------------------------------------------------------------------------

void sort_for_file(std::vector<TensorLayout>& layouts) {
  std::sort(layouts.begin(), layouts.end(), [](const TensorLayout& a, const TensorLayout& b) {
    const size_t size_a = size_of(a.dtype), size_b = size_of(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
}

static std::string header_text(const std::vector<TensorLayout>& layouts,
                               const TensorMetadata& metadata) {
  Json json;
  json.object([&] {
    if (!metadata.empty()) {
      json.object("__metadata__", [&] {
        for (const auto& [name, value] : metadata) json.field(name, value);
      });
    }
    uint64_t at = 0;
    for (const TensorLayout& layout : layouts) {
      json.object(layout.name, [&] {
        json.field("dtype", name_of(layout.dtype));
        json.field("shape", layout.shape);
        json.field("data_offsets", std::vector<uint64_t>{at, at + layout.bytes()});
      });
      at += layout.bytes();
    }
  });
  std::string text = json.text();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the first tensor is aligned
  return text;
}

SafetensorsWriter::SafetensorsWriter(FileSystem& files, const std::string& path,
                                     std::vector<TensorLayout> layouts,
                                     const TensorMetadata& metadata)
    : layouts_(std::move(layouts)) {
  sort_for_file(layouts_);
  std::set<std::string_view> names;
  for (const TensorLayout& layout : layouts_) {
    LF_CHECK(valid_utf8(layout.name) && layout.name != "__metadata__", "tensor ", layout.name);
    LF_CHECK(names.insert(layout.name).second, "two tensors are named ", layout.name);
  }
  const std::string header = header_text(layouts_, metadata);
  if (header.size() > kMostHeaderBytes) {
    fail(Code::kUsage, printable(path), " would need a header of ", human_bytes(header.size()),
         ", readers accept 100 MB; save over more ranks or give tensors shorter names");
  }
  out_ = files.create(path);
  const uint64_t size = header.size();
  append(&size, 8);
  append(header.data(), header.size());
}

uint32_t SafetensorsWriter::write(const void* data) {
  LF_CHECK(next_ < layouts_.size(), "more tensors than were announced");
  const auto* p = static_cast<const char*>(data);
  uint32_t crc = 0;
  for (uint64_t left = layouts_[next_++].bytes(); left > 0;) {
    const size_t piece = std::min<uint64_t>(left, kPiece);
    crc = crc32c(p, piece, crc);
    append(p, piece);
    p += piece;
    left -= piece;
  }
  return crc;
}

void SafetensorsWriter::append(const void* data, size_t size) {
  written_.crc32c = crc32c(data, size, written_.crc32c);
  written_.bytes += size;
  if (size >= kPiece / 4) {
    if (!buffer_.empty()) out_->write(buffer_.data(), buffer_.size());
    buffer_.clear();
    out_->write(data, size);
    return;
  }
  buffer_.append(static_cast<const char*>(data), size);
  if (buffer_.size() < kPiece) return;
  out_->write(buffer_.data(), buffer_.size());
  buffer_.clear();
}

SafetensorsWriter::Written SafetensorsWriter::finish() {
  LF_CHECK(next_ == layouts_.size(), "tensors missing: ", layouts_.size() - next_);
  if (!buffer_.empty()) out_->write(buffer_.data(), buffer_.size());
  buffer_.clear();
  out_->sync();
  out_->close();
  return written_;
}

}  // namespace lf
