// Tar archives: v7, ustar, GNU's and pax's long names and sizes. Reads the headers only.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "data/formats/archive.h"

namespace lf {
namespace {

using Problem = ArchiveMember::Problem;

constexpr size_t kBlock = 512;
constexpr uint64_t kLongestName = 4096;
constexpr uint64_t kLongestPax = 1 << 20;

using Block = std::array<uint8_t, kBlock>;

// A field of text, which a NUL ends if it is not full.
std::string_view text_at(const Block& block, size_t at, size_t size) {
  const auto* begin = reinterpret_cast<const char*>(block.data() + at);
  return {begin, ::strnlen(begin, size)};
}

// An octal number, or with the first bit set a big-endian one; nullopt: neither.
std::optional<uint64_t> number_at(const Block& block, size_t at, size_t size) {
  const uint8_t* p = block.data() + at;
  const uint8_t* end = p + size;
  uint64_t value = 0;
  if (*p == 0x80) {
    while (++p < end) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | *p;
    }
    return value;
  }
  while (p < end && *p == ' ') ++p;
  if (p == end || *p < '0' || *p > '7') return std::nullopt;
  for (; p < end && *p >= '0' && *p <= '7'; ++p) value = value << 3 | (*p - '0');  // < 2^36
  return p == end || *p == ' ' || *p == 0 ? std::optional(value) : std::nullopt;
}

bool is_zero(const uint8_t* bytes, size_t size) {
  return std::all_of(bytes, bytes + size, [](uint8_t byte) { return byte == 0; });
}

// Is this a header? The sum of its bytes, its own field as spaces; old programs took signed bytes.
bool checksum_fits(const Block& block) {
  constexpr size_t kField = 148, kFieldSize = 8;
  const std::optional<uint64_t> wanted = number_at(block, kField, kFieldSize);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // else a fuzzer gets no further than the first one
  return wanted.has_value();
#endif
  uint64_t sum = kFieldSize * ' ';
  int64_t signed_sum = kFieldSize * ' ';
  for (size_t i = 0; i < kBlock; ++i) {
    if (i >= kField && i < kField + kFieldSize) continue;
    sum += block[i];
    signed_sum += static_cast<int8_t>(block[i]);
  }
  return wanted && (*wanted == sum || static_cast<int64_t>(*wanted) == signed_sum);
}

class Tar {
 public:
  Tar(const InFile& file, uint64_t begin, uint64_t size, const std::string& what)
      : file_(file), begin_(begin), at_(begin), end_(begin + size), what_(what) {
    LF_CHECK(begin <= file.size() && size <= file.size() - begin);
  }

  void list(const VisitMember& visit) {
    Block block;
    while (true) {
      if (end_ - at_ < kBlock) damaged("it has no end mark; cut?");
      file_.read(at_, block.data(), kBlock);
      if (is_zero(block.data(), kBlock)) return check_end();
      if (!checksum_fits(block)) {
        damaged(at_ == begin_ ? std::string("it is no tar archive, or damaged")
                              : str("the header at byte ", at_ - begin_, " is damaged"));
      }
      at_ += kBlock;
      read_member(block, visit);
    }
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const { fail(Code::kData, what_, ": ", why); }

  // Tars that were joined have an end mark in the middle, at which most programs stop.
  void check_end() const {
    constexpr uint64_t kLook = 64 << 10;
    std::string rest(std::min(end_ - at_, kLook), '\0');
    file_.read(at_, rest.data(), rest.size());
    if (is_zero(reinterpret_cast<const uint8_t*>(rest.data()), rest.size())) return;
    damaged(str("it goes on behind its end mark at byte ", at_ - begin_,
                "; if it is several tars joined, keep them apart in one folder"));
  }

  void read_member(const Block& block, const VisitMember& visit) {
    const char type = static_cast<char>(block[156]);
    const bool extension = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    uint64_t size = pax_size_.value_or(0);
    if (!pax_size_ || extension) {
      const std::optional<uint64_t> written = number_at(block, 124, 12);
      // Some programs leave the field of what has no contents blank.
      if (!written && !(type >= '1' && type <= '6')) {
        damaged(str("the size in the header at byte ", at_ - kBlock - begin_, " is no number"));
      }
      size = written.value_or(0);
    }
    if (type >= '1' && type <= '6') size = 0;
    if (type == 'S') skip_sparse_map(block);
    if (size > end_ - at_) {
      damaged(str("it ends within '", printable(name_of(block), 100), "'; cut?"));
    }
    const uint64_t contents = at_;
    at_ += std::min((size + kBlock - 1) / kBlock * kBlock, end_ - at_);
    if (extension) return read_extension(type, contents, size);
    if (type == 'M') damaged("it is a part of an archive of several tapes; join them");
    if (type == 'V') return;  // a label of the tape
    const std::string name = name_of(block);
    ArchiveMember member{.offset = contents, .packed = size, .size = size};
    const bool is_folder = type == '5' || type == 'D' || name.ends_with('/');
    if (type == '1' || type == '2') {
      member.problem = Problem::kLink;
    } else if (type == 'S' || sparse_) {
      member.problem = Problem::kSparse;
    } else if (type != 0 && type != '0' && type != '7') {
      member.problem = Problem::kDevice;
    }
    if (!is_folder) visit(name, member);
    long_name_.reset();
    pax_size_.reset();
    sparse_ = false;
  }

  std::string name_of(const Block& block) const {
    if (long_name_) return *long_name_;
    std::string name(text_at(block, 0, 100));
    const std::string_view prefix = text_at(block, 345, 155);
    const bool has_prefix = std::memcmp(block.data() + 257, "ustar", 6) == 0;  // not GNU's
    return has_prefix && !prefix.empty() ? str(prefix, "/", name) : name;
  }

  // An old sparse file's map may be longer than its header.
  void skip_sparse_map(const Block& header) {
    Block more;
    for (bool goes_on = header[482] != 0; goes_on; goes_on = more[504] != 0) {
      if (end_ - at_ < kBlock) damaged("it ends within a sparse file's header; cut?");
      file_.read(at_, more.data(), kBlock);
      at_ += kBlock;
    }
  }

  void read_extension(char type, uint64_t at, uint64_t size) {
    if (type == 'K') return;  // the long target of a link
    if (size > (type == 'L' ? kLongestName : kLongestPax)) {
      damaged(str("the name or header at byte ", at - begin_, " has ", size, " bytes, too many"));
    }
    std::string text(size, '\0');
    file_.read(at, text.data(), size);
    if (type != 'L') return read_pax(type, text, at);
    text.resize(::strnlen(text.data(), text.size()));
    long_name_ = text;
  }

  // Records "LENGTH KEY=VALUE\n", the length of all of it.
  void read_pax(char type, std::string_view text, uint64_t at) {
    while (!text.empty() && text.front() != 0) {
      const size_t space = text.find(' ');
      uint64_t length = 0;
      const bool whole = space != std::string_view::npos && parse(text.substr(0, space), &length) &&
                         length > space + 1 && length <= text.size() && text[length - 1] == '\n';
      const size_t equals = whole ? text.find('=', space) : std::string_view::npos;
      if (equals >= length) damaged(str("the pax header at byte ", at - begin_, " is damaged"));
      const std::string_view key = text.substr(space + 1, equals - space - 1);
      const std::string_view value = text.substr(equals + 1, length - equals - 2);
      text.remove_prefix(length);
      const bool sparse = key.starts_with("GNU.sparse.");
      if (type == 'g' && (key == "path" || key == "size" || sparse)) {
        damaged(str("its global pax header sets '", printable(key, 40), "' for all members"));
      }
      if (type == 'g') continue;
      sparse_ |= sparse;
      if (key == "path") {
        if (value.size() > kLongestName) damaged("a name has too many bytes");
        long_name_ = value;
      } else if (key == "size") {
        uint64_t bytes = 0;
        if (!parse(value, &bytes)) damaged("the size in a pax header is no number");
        pax_size_ = bytes;
      }
    }
  }

  const InFile& file_;
  const uint64_t begin_;
  uint64_t at_, end_;
  const std::string& what_;
  // For the next member.
  std::optional<std::string> long_name_;
  std::optional<uint64_t> pax_size_;
  bool sparse_ = false;
};

}  // namespace

void list_tar(const InFile& file, uint64_t begin, uint64_t size, const std::string& what,
              const VisitMember& visit) {
  Tar(file, begin, size, what).list(visit);
}

ArchiveKind archive_kind(const InFile& file) {
  Block block{};
  const size_t size = std::min<uint64_t>(file.size(), kBlock);
  file.read(0, block.data(), size);
  const auto begins_with = [&](std::string_view magic) {
    return std::memcmp(block.data(), magic.data(), magic.size()) == 0;
  };
  using namespace std::string_view_literals;
  if (begins_with("PK\3\4") || begins_with("PK\5\6")) return ArchiveKind::kZip;
  if (size == kBlock && (checksum_fits(block) || is_zero(block.data(), kBlock))) {
    return ArchiveKind::kTar;
  }
  for (const std::string_view magic : {"\x1f\x8b"sv, "BZh"sv,
                                       "\xfd"
                                       "7zXZ\0"sv,
                                       "\x28\xb5\x2f\xfd"sv}) {
    if (begins_with(magic)) return ArchiveKind::kCompressed;
  }
  return ArchiveKind::kOther;
}

}  // namespace lf
