#include "data/formats/npz.h"

#include <zlib.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace lf {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr uint64_t kMostInflation = 1100;  // deflate cannot do better
constexpr uint32_t kStored = 0, kDeflated = 8;

// A member's entry in the archive's directory.
struct Entry {
  std::string name;
  uint32_t method, crc, packed, size, offset;
};

class Archive {
 public:
  Archive(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  std::map<std::string, std::string> unpack(uint64_t limit) const {
    std::map<std::string, std::string> members;
    uint64_t total = 0;
    for (const Entry& entry : directory()) {
      total += entry.size;
      if (total > limit) {
        damaged(str("its arrays have more than ", human_bytes(limit), ", too many to read"));
      }
      if (!entry.name.ends_with(".npy")) damaged("it holds other files than .npy");
      members[entry.name.substr(0, entry.name.size() - 4)] = contents(entry);
    }
    return members;
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const {
    fail(Code::kData, name_, " is no usable .npz file: ", why);
  }

  // The little-endian integer of `size` bytes at `at`.
  uint32_t number(uint64_t at, size_t size) const {
    uint32_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | bytes_[checked(at, size) + i];
    return value;
  }
  size_t checked(uint64_t at, uint64_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at) damaged("it ends too early; truncated?");
    return static_cast<size_t>(at);
  }

  // The end record is followed by a comment of at most 65,535 bytes.
  uint64_t end_record() const {
    const size_t least = bytes_.size() < kEndBytes + 65535 ? 0 : bytes_.size() - kEndBytes - 65535;
    for (size_t at = bytes_.size() < kEndBytes ? 0 : bytes_.size() - kEndBytes + 1; at-- > least;) {
      if (number(at, 4) == kEnd) return at;
    }
    damaged("it is no zip archive, or truncated");
  }

  std::vector<Entry> directory() const {
    const uint64_t end = end_record();
    const uint32_t count = number(end + 10, 2);
    uint64_t at = number(end + 16, 4);
    std::vector<Entry> entries;
    for (uint32_t i = 0; i < count; ++i) {
      checked(at, kCentralBytes);
      if (number(at, 4) != kCentral) damaged("its directory is damaged");
      Entry entry{"",
                  number(at + 10, 2),
                  number(at + 16, 4),
                  number(at + 20, 4),
                  number(at + 24, 4),
                  number(at + 42, 4)};
      if (std::max({entry.packed, entry.size, entry.offset}) == UINT32_MAX) {
        damaged("it is of the 64-bit kind, for 4 GiB and more");
      }
      if ((number(at + 8, 2) & 1) != 0) damaged("it is encrypted");
      const uint32_t length = number(at + 28, 2);
      const char* name = reinterpret_cast<const char*>(bytes_.data());
      entry.name.assign(name + checked(at + kCentralBytes, length), length);
      at += kCentralBytes + length + number(at + 30, 2) + number(at + 32, 2);
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  std::string contents(const Entry& entry) const {
    const uint64_t at = entry.offset;
    if (number(at, 4) != kLocal) damaged("a member is not where the directory says");
    const uint64_t begin = at + kLocalBytes + number(at + 26, 2) + number(at + 28, 2);
    const uint8_t* packed = bytes_.data() + checked(begin, entry.packed);
    if (entry.size / kMostInflation > entry.packed) damaged("a member inflates too much");
    std::string out;
    if (entry.method == kStored && entry.packed == entry.size) {
      out.assign(reinterpret_cast<const char*>(packed), entry.size);
    } else if (entry.method == kDeflated) {
      out = inflated(packed, entry);
    } else {
      damaged("a member is packed in a way that NumPy does not use");
    }
    const uLong crc =
        ::crc32(0, reinterpret_cast<const Bytef*>(out.data()), static_cast<uInt>(out.size()));
    if (crc != entry.crc) damaged(str("the checksum of '", printable(entry.name, 60), "' differs"));
    return out;
  }

  std::string inflated(const uint8_t* packed, const Entry& entry) const {
    std::string out(entry.size, '\0');
    z_stream stream{};
    LF_CHECK(::inflateInit2(&stream, -MAX_WBITS) == Z_OK);
    stream.next_in = const_cast<Bytef*>(packed);
    stream.avail_in = entry.packed;
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = entry.size;
    const int status = ::inflate(&stream, Z_FINISH);
    const bool whole = status == Z_STREAM_END && stream.total_out == entry.size;
    ::inflateEnd(&stream);
    if (!whole) damaged(str("'", printable(entry.name, 60), "' does not inflate"));
    return out;
  }

  std::span<const uint8_t> bytes_;
  const std::string& name_;
};

void append(std::string& out, uint32_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

}  // namespace

std::map<std::string, std::string> unpack_npz(std::span<const uint8_t> archive, uint64_t limit,
                                              const std::string& name) {
  return Archive(archive, name).unpack(limit);
}

std::string pack_npz(const std::map<std::string, std::string>& members) {
  constexpr uint32_t kVersion = 20, kDate = 33;  // 1 January 1980
  std::string out, directory;
  for (const auto& [name, bytes] : members) {
    LF_CHECK(out.size() + bytes.size() < UINT32_MAX, "an archive of 4 GiB");
    const auto offset = static_cast<uint32_t>(out.size());
    const std::string file = name + ".npy";
    std::string common;  // to both records: version, flags, method, time, date, crc, sizes, lengths
    append(common, kVersion, 2);
    append(common, 0, 2);
    append(common, kStored, 2);
    append(common, 0, 2);
    append(common, kDate, 2);
    append(common,
           static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()),
                                         static_cast<uInt>(bytes.size()))),
           4);
    append(common, static_cast<uint32_t>(bytes.size()), 4);
    append(common, static_cast<uint32_t>(bytes.size()), 4);
    append(common, static_cast<uint32_t>(file.size()), 2);
    append(common, 0, 2);
    append(out, kLocal, 4);
    out += common + file + bytes;
    append(directory, kCentral, 4);
    append(directory, kVersion, 2);
    directory += common;
    directory.append(10, '\0');  // no comment, disk 0, no attributes
    append(directory, offset, 4);
    directory += file;
  }
  const auto begin = static_cast<uint32_t>(out.size());
  out += directory;
  append(out, kEnd, 4);
  append(out, 0, 4);
  for (int i = 0; i < 2; ++i) append(out, static_cast<uint32_t>(members.size()), 2);
  append(out, static_cast<uint32_t>(directory.size()), 4);
  append(out, begin, 4);
  append(out, 0, 2);
  return out;
}

}  // namespace lf
