// Zip and tar archives: where each member lies, and its bytes. Reads untrusted archives in place
// and checks every size before allocating it; nothing is unpacked to disk, and a member's name is
// only a name. No compressed tars, no archives of several disks, no passwords.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace lf {

struct ArchiveMember {
  enum class Packing : uint8_t {
    kPlain,     // in a tar
    kStored,    // in a zip, behind a header of its own
    kDeflated,  // the same, deflated
    kOther,     // the same, otherwise
  };
  enum class Problem : uint8_t { kNone, kEncrypted, kSparse, kLink, kDevice };

  uint64_t offset = 0;            // of the contents, in a zip of the header before them
  uint64_t packed = 0, size = 0;  // in the archive, unpacked
  uint32_t crc = 0;               // in a zip
  uint16_t method = 0;            // in a zip
  Packing packing = Packing::kPlain;
  Problem problem = Problem::kNone;
};

// Called for each member but folders, in the archive's order. The name is as it stands there.
using VisitMember = std::function<void(std::string_view name, const ArchiveMember& member)>;

// Both throw Code::kData, beginning with `what`, if the archive is cut or damaged, or if members
// overlap; only members' contents are not looked at.
void list_zip(const InFile& file, const std::string& what, const VisitMember& visit);
// The tar in the `size` bytes at `begin` of the file: v7, ustar, GNU and pax.
void list_tar(const InFile& file, uint64_t begin, uint64_t size, const std::string& what,
              const VisitMember& visit);

// The first bytes of a member, at most `most`; all of a zip's are checked against its CRC. Throws
// Code::kData, beginning with `what`, if it is damaged, encrypted or packed by another method.
std::string read_member(const InFile& file, const ArchiveMember& member, uint64_t most,
                        const std::string& what);

// What a file is by how it begins.
enum class ArchiveKind { kZip, kTar, kCompressed, kOther };
ArchiveKind archive_kind(const InFile& file);

// Bytes in memory as a file.
class BytesFile : public InFile {
 public:
  BytesFile(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {}
  uint64_t size() const override { return bytes_.size(); }
  void read(uint64_t offset, void* into, size_t size) const override;

 private:
  std::span<const uint8_t> bytes_;
  std::string name_;
};

}  // namespace lf
