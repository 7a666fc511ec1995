#include "data/formats/npz.h"

#include <zlib.h>

#include "base/error.h"
#include "data/formats/archive.h"

namespace lf {
namespace {

void append(std::string& out, uint32_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

}  // namespace

std::map<std::string, std::string> unpack_npz(std::span<const uint8_t> archive, uint64_t limit,
                                              const std::string& name) {
  const BytesFile file(archive, name);
  const std::string what = name + " is no usable .npz file";
  std::map<std::string, std::string> members;
  uint64_t left = limit;
  list_zip(file, what, [&](std::string_view member_name, const ArchiveMember& member) {
    if (member.size > left) {
      fail(Code::kData, what, ": its arrays have more than ", human_bytes(limit),
           ", too many to read");
    }
    left -= member.size;
    if (!member_name.ends_with(".npy")) {
      fail(Code::kData, what, ": it holds other files than .npy");
    }
    members[std::string(member_name.substr(0, member_name.size() - 4))] =
        read_member(file, member, member.size, str(what, ": '", printable(member_name, 60), "'"));
  });
  return members;
}

std::string pack_npz(const std::map<std::string, std::string>& members) {
  constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
  constexpr uint32_t kVersion = 20, kStored = 0, kDate = 33;  // 1 January 1980
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
