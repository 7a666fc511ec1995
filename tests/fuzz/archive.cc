// Fuzzes the readers of zip and tar, and of the JSON in them: all that they list is read, with
// limits small enough that an input is quick and memory is bounded.
#include "data/formats/archive.h"

#include "base/error.h"
#include "data/formats/json_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const lf::BytesFile file({data, size}, "fuzz");
  const auto harmless = [&](const auto& body) {
    try {
      body();
    } catch (const lf::Error& error) {
      if (error.code() != lf::Code::kData) throw;
    }
  };
  uint64_t packed = 0;
  const auto visit = [&](std::string_view, const lf::ArchiveMember& member) {
    LF_CHECK(member.packed <= size && member.offset <= size);
    packed += member.packed;
    harmless([&] { lf::read_member(file, member, 1 << 16, "fuzz"); });
    harmless([&] {
      if (member.size < 1 << 20) lf::read_member(file, member, member.size, "fuzz");
    });
  };
  harmless([&] {
    lf::list_zip(file, "fuzz", visit);
    LF_CHECK(packed <= size, "members overlap");
  });
  packed = 0;
  harmless([&] { lf::list_tar(file, 0, size, "fuzz", visit); });
  LF_CHECK(packed <= size, "members overlap");
  harmless([&] { lf::JsonReader({reinterpret_cast<const char*>(data), size}, "fuzz").skip(); });
  lf::archive_kind(file);
  return 0;
}
