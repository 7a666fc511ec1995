// Zip archives, 64-bit ones too, and the contents of members of either kind of archive.
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "data/formats/archive.h"

namespace lf {
namespace {

using Packing = ArchiveMember::Packing;
using Problem = ArchiveMember::Problem;

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint64_t kMostExpansion = 1032;  // deflate cannot do better

// The little-endian integer of `size` bytes.
uint64_t number(const uint8_t* at, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | at[i];
  return value;
}

class Directory {
 public:
  Directory(const InFile& file, const std::string& what) : file_(file), what_(what) {}

  void list(const VisitMember& visit) {
    find();
    std::vector<std::pair<uint64_t, uint64_t>> extents;  // of members, at least
    uint64_t members = 0;
    for (; at_ < end_; ++members) {
      const uint8_t* entry = next(kCentralBytes);
      if (number(entry, 4) != kCentral) damaged("its directory is damaged");
      const size_t name_bytes = number(entry + 28, 2), extra_bytes = number(entry + 30, 2);
      const size_t comment_bytes = number(entry + 32, 2);
      ArchiveMember member = read_entry(entry);
      const bool is_unix = entry[5] == 3;
      const auto mode = is_unix ? static_cast<uint32_t>(number(entry + 40, 2)) : 0;  // S_IFMT
      const uint8_t* rest = next(name_bytes + extra_bytes + comment_bytes);
      const std::string_view name(reinterpret_cast<const char*>(rest), name_bytes);
      read_extra({rest + name_bytes, extra_bytes}, member);
      const uint64_t least = kLocalBytes + name_bytes;
      if (member.offset > begin_ || begin_ - member.offset < least ||
          member.packed > begin_ - member.offset - least) {
        damaged(str("'", printable(name, 100), "' lies beyond its end; cut?"));
      }
      extents.emplace_back(member.offset, member.offset + least + member.packed);
      if ((mode & 0170000) == 0120000) member.problem = Problem::kLink;
      if (!name.ends_with('/')) visit(name, member);
    }
    if (members != count_) damaged(str("its directory has ", members, " members, not ", count_));
    std::sort(extents.begin(), extents.end());
    for (size_t i = 1; i < extents.size(); ++i) {
      if (extents[i - 1].second > extents[i].first) {
        damaged(str("members overlap at byte ", extents[i].first));
      }
    }
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const { fail(Code::kData, what_, ": ", why); }

  // Sets begin_, end_ and count_. The end record is followed by a comment of at most 65,535 bytes.
  void find() {
    const uint64_t size = file_.size();
    std::vector<uint8_t> tail(std::min<uint64_t>(size, kLocator64Bytes + kEndBytes + 65535));
    file_.read(size - tail.size(), tail.data(), tail.size());
    size_t at = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1;
    const auto is_end = [&](const uint8_t* record, size_t left) {
      return number(record, 4) == kEnd && number(record + 20, 2) == left - kEndBytes;
    };
    while (at > 0 && !is_end(&tail[at - 1], tail.size() - at + 1)) --at;
    if (at-- == 0) damaged("it has no directory at its end; cut, or no zip archive");
    const uint8_t* end = &tail[at];
    uint64_t record = size - tail.size() + at;
    if (number(end + 4, 2) % 0xFFFF != 0 || number(end + 6, 2) % 0xFFFF != 0) {
      damaged("it is a part of an archive of several files; join them");
    }
    count_ = number(end + 10, 2);
    uint64_t bytes = number(end + 12, 4);
    begin_ = number(end + 16, 4);
    if (at >= kLocator64Bytes && number(end - kLocator64Bytes, 4) == kLocator64) {
      record = number(end - kLocator64Bytes + 8, 8);
      uint8_t end64[kEnd64Bytes];
      if (record > size || size - record < kEnd64Bytes) damaged("its end record is damaged");
      file_.read(record, end64, kEnd64Bytes);
      if (number(end64, 4) != kEnd64) damaged("its end record is damaged");
      count_ = number(end64 + 32, 8);
      bytes = number(end64 + 40, 8);
      begin_ = number(end64 + 48, 8);
    }
    if (begin_ > record || bytes > record - begin_) {
      damaged("its directory is not where its end says; cut or damaged");
    }
    at_ = begin_;
    end_ = begin_ + bytes;
  }

  // The next bytes of the directory, valid until the next call.
  const uint8_t* next(size_t size) {
    if (end_ - at_ < size) damaged("its directory ends too early");
    if (buffer_.size() - used_ < size) {
      constexpr uint64_t kPiece = 256 << 10;  // a name, extra field and comment have less
      const size_t fill = std::min<uint64_t>(std::max<uint64_t>(kPiece, size), end_ - at_);
      buffer_.resize(fill);
      file_.read(at_, buffer_.data(), fill);
      used_ = 0;
    }
    const uint8_t* bytes = buffer_.data() + used_;
    used_ += size;
    at_ += size;
    return bytes;
  }

  static ArchiveMember read_entry(const uint8_t* entry) {
    constexpr uint64_t kEncryptedBits = 1 | 1 << 6 | 1 << 13;
    ArchiveMember member;
    member.method = static_cast<uint16_t>(number(entry + 10, 2));
    member.packing = member.method == 0   ? Packing::kStored
                     : member.method == 8 ? Packing::kDeflated
                                          : Packing::kOther;
    if ((number(entry + 8, 2) & kEncryptedBits) != 0) member.problem = Problem::kEncrypted;
    member.crc = static_cast<uint32_t>(number(entry + 16, 4));
    member.packed = number(entry + 20, 4);
    member.size = number(entry + 24, 4);
    member.offset = number(entry + 42, 4);
    return member;
  }

  // Fields of 32 bits that are full stand in the extra field of the 64-bit format, in this order.
  void read_extra(std::span<const uint8_t> extra, ArchiveMember& member) const {
    while (extra.size() >= 4) {
      const uint64_t id = number(extra.data(), 2), size = number(extra.data() + 2, 2);
      extra = extra.subspan(4);
      if (size > extra.size()) return;  // some programs pad
      if (id == 1) {
        const uint8_t* at = extra.data();
        for (uint64_t* field : {&member.size, &member.packed, &member.offset}) {
          if (*field != UINT32_MAX) continue;
          if (at + 8 > extra.data() + size) damaged("a 64-bit member is damaged");
          *field = number(at, 8);
          at += 8;
        }
        return;
      }
      extra = extra.subspan(size);
    }
  }

  const InFile& file_;
  const std::string& what_;
  uint64_t begin_ = 0, end_ = 0, count_ = 0;  // of the directory
  uint64_t at_ = 0;
  std::vector<uint8_t> buffer_;
  size_t used_ = 0;
};

struct Inflation {
  z_stream stream{};
  Inflation() { LF_CHECK(::inflateInit2(&stream, -MAX_WBITS) == Z_OK); }
  Inflation(const Inflation&) = delete;
  Inflation& operator=(const Inflation&) = delete;
  ~Inflation() { ::inflateEnd(&stream); }
};

// The beginning of a deflated member into `out`, all of which it fills.
void inflate_into(std::string& out, const InFile& file, uint64_t begin, const ArchiveMember& member,
                  const std::string& what) {
  constexpr uint64_t kPiece = 1 << 20;
  Inflation inflation;
  z_stream& stream = inflation.stream;
  uint64_t left = member.packed;
  std::vector<uint8_t> piece(std::min(left, kPiece));
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  for (int status = Z_OK; status != Z_STREAM_END;) {
    if (stream.avail_in == 0 && left > 0) {
      const size_t bytes = std::min<uint64_t>(left, piece.size());
      file.read(begin + member.packed - left, piece.data(), bytes);
      left -= bytes;
      stream.next_in = piece.data();
      stream.avail_in = static_cast<uInt>(bytes);
    }
    status = ::inflate(&stream, Z_NO_FLUSH);
    if (status == Z_OK && stream.avail_out == 0 && out.size() < member.size) return;
    if (status == Z_BUF_ERROR && stream.avail_out == 0) {
      fail(Code::kData, what, ": it inflates to more than the ", member.size, " bytes it should");
    }
    if (status != Z_OK && status != Z_STREAM_END) {
      fail(Code::kData, what, ": it does not inflate; damaged");
    }
  }
  if (stream.avail_out > 0) {
    fail(Code::kData, what, ": it inflates to ", stream.total_out, " bytes, not ", member.size);
  }
}

const char* method_name(uint16_t method) {
  switch (method) {
    case 9:
      return "deflate64";
    case 12:
      return "bzip2";
    case 14:
      return "LZMA";
    case 93:
      return "Zstandard";
    case 95:
      return "xz";
    default:
      return "an unknown method";
  }
}

void refuse_unusable(const ArchiveMember& member, const std::string& what) {
  switch (member.problem) {
    case Problem::kNone:
      break;
    case Problem::kEncrypted:
      fail(Code::kData, what, ": it is encrypted; repack it without a password");
    case Problem::kSparse:
      fail(Code::kData, what, ": it is sparse; repack it without --sparse");
    case Problem::kLink:
      fail(Code::kData, what, ": it is a link");
    case Problem::kDevice:
      fail(Code::kData, what, ": it is no file");
  }
  if (member.packing == Packing::kOther) {
    fail(Code::kData, what, ": it is packed by ", method_name(member.method), " (", member.method,
         "), expected stored or deflated; repack it");
  }
  const bool possible = member.packing == Packing::kDeflated
                            ? member.size / kMostExpansion <= member.packed
                            : member.size == member.packed;
  if (!possible || member.size > UINT32_MAX) {
    fail(Code::kData, what, ": it has ", member.packed, " bytes, which cannot unpack to ",
         member.size);
  }
}

// Behind the member's own header, which may differ in length from the directory's.
uint64_t contents_of(const InFile& file, const ArchiveMember& member, const std::string& what) {
  uint8_t header[kLocalBytes];
  file.read(member.offset, header, kLocalBytes);
  if (number(header, 4) != kLocal) {
    fail(Code::kData, what, ": it is not where the archive's directory says");
  }
  const uint64_t begin =
      member.offset + kLocalBytes + number(header + 26, 2) + number(header + 28, 2);
  if (begin > file.size() || member.packed > file.size() - begin) {
    fail(Code::kData, what, ": it lies beyond the archive's end");
  }
  return begin;
}

}  // namespace

void list_zip(const InFile& file, const std::string& what, const VisitMember& visit) {
  Directory(file, what).list(visit);
}

std::string read_member(const InFile& file, const ArchiveMember& member, uint64_t most,
                        const std::string& what) {
  refuse_unusable(member, what);
  std::string out(std::min(member.size, most), '\0');
  if (member.packing == Packing::kPlain) {
    file.read(member.offset, out.data(), out.size());
    return out;
  }
  const uint64_t begin = contents_of(file, member, what);
  if (member.packing == Packing::kStored) {
    file.read(begin, out.data(), out.size());
  } else {
    inflate_into(out, file, begin, member, what);
  }
  const uLong crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(out.data()), out.size());
  if (out.size() == member.size && crc != member.crc) {
    fail(Code::kData, what, ": its checksum differs; damaged");
  }
  return out;
}

void BytesFile::read(uint64_t offset, void* into, size_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) {
    fail(Code::kData, name_, " ends at byte ", bytes_.size(), "; truncated?");
  }
  if (size > 0) std::memcpy(into, bytes_.data() + offset, size);
}

}  // namespace lf
