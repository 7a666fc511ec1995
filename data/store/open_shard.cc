#include "data/store/open_shard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"

namespace lf {

OpenShard::OpenShard(const std::string& store, const Layout& layout, const ShardRecord& record,
                     uint64_t number, ReadMode mode)
    : name_(str("store ", printable(store), ", shard ", shard_name(number))),
      layout_(layout),
      record_(record) {
  const std::string path = shard_path(store, number);
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd_ < 0) refuse_open(errno);
  try {
    check_file();
    read_table();
    if (mode == MMAP) map();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

OpenShard::~OpenShard() {
  if (mapping_ != nullptr) ::munmap(mapping_, record_.bytes());
  ::close(fd_);
}

void OpenShard::read_checked(uint64_t clip, uint64_t row, uint64_t offset, const Part& first,
                             const Part& second) const {
  if (mapping_ == nullptr) read(offset, first.into, first.size, second.into, second.size);
  for (const Part* part : {&first, &second}) {
    if (part->into == nullptr) continue;
    if (mapping_ == nullptr) {
      check(clip, row, part->column, crc32c(part->into, part->size));
    } else {  // one pass: the checksum is computed while the copy waits for memory
      check(clip, row, part->column,
            crc32c_copy(part->into, mapped(offset, part->size), part->size));
    }
    offset += part->size;
  }
}

std::string OpenShard::read_text(uint64_t clip, uint64_t row, size_t first, size_t column) const {
  uint64_t range[2];
  read(address(first) + row * sizeof(uint64_t), range, sizeof range);
  if (range[0] > range[1] || range[1] > layout_.rows(first + 1, record_) ||
      range[1] - range[0] > kLongestText) {
    fail(Code::kData, name_, ": row ", row, " of ", layout_.datasets()[first].name, " is damaged",
         kRepairAdvice);
  }
  std::string text(range[1] - range[0], '\0');
  read(address(first + 1) + range[0], text.data(), text.size());
  check(clip, row, column, crc32c(text.data(), text.size()));
  return text;
}

void OpenShard::refuse_open(int error) const {
  if (error == EMFILE || error == ENFILE) {
    fail(Code::kUsage, name_, " cannot be opened: ", std::strerror(error),
         "; raise the limit (ulimit -n)");
  }
  if (error == ENOENT) fail(Code::kData, name_, " is missing", kRepairAdvice);
  if (error == ELOOP) {
    fail(Code::kData, name_, " is a symbolic link, expected a file", kRepairAdvice);
  }
  fail(Code::kData, name_, " cannot be opened: ", std::strerror(error));
}

void OpenShard::check_file() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    fail(Code::kData, name_, " is not a regular file", kRepairAdvice);
  }
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size != record_.bytes()) {
    fail(Code::kData, name_, " has ", human_count(size), " bytes, the index says ",
         human_count(record_.bytes()), size < record_.bytes() ? "; truncated?" : "", kRepairAdvice);
  }
}

void OpenShard::map() {
  void* mapping = ::mmap(nullptr, record_.bytes(), PROT_READ, MAP_SHARED, fd_, 0);
  if (mapping == MAP_FAILED) {
    fail(Code::kUsage, name_, " cannot be mapped into memory: ", std::strerror(errno),
         "; use loader.read: PREAD");
  }
  mapping_ = mapping;
}

void OpenShard::read_table() {
  crc_.resize(record_.clips() * layout_.checksums());
  items_.resize(record_.clips());
  labels_.resize(record_.clips());
  uint32_t crc = 0;
  const auto fill = [&](size_t dataset, auto& rows) {
    const size_t bytes = rows.size() * sizeof(rows[0]);
    read(address(dataset), rows.data(), bytes);
    crc = crc32c(rows.data(), bytes, crc);
  };
  fill(Layout::kCrc, crc_);
  fill(Layout::kItems, items_);
  fill(Layout::kLabels, labels_);
  if (crc != record_.table_crc()) {
    fail(Code::kData, name_,
         ": its checksums, items and labels do not match the index; flipped bits, or another "
         "shard under this name",
         kRepairAdvice);
  }
}

void OpenShard::read(uint64_t offset, void* first, size_t first_size, void* second,
                     size_t second_size) const {
  if (mapping_ != nullptr) {
    std::memcpy(first, mapped(offset, first_size), first_size);
    if (second_size > 0) {
      std::memcpy(second, mapped(offset + first_size, second_size), second_size);
    }
    return;
  }
  iovec parts[2] = {{first, first_size}, {second, second_size}};
  iovec* at = parts;
  int count = second_size > 0 ? 2 : 1;
  while (count > 0) {
    if (at->iov_len == 0) {
      ++at;
      --count;
      continue;
    }
    const ssize_t n = ::preadv(fd_, at, count, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(Code::kData, name_, " cannot be read: ", std::strerror(errno));
    if (n == 0) fail(Code::kData, name_, " ends at byte ", offset, "; truncated?", kRepairAdvice);
    offset += static_cast<uint64_t>(n);
    for (auto left = static_cast<size_t>(n); left > 0;) {
      const size_t step = std::min(left, at->iov_len);
      at->iov_base = static_cast<char*>(at->iov_base) + step;
      at->iov_len -= step;
      left -= step;
      if (at->iov_len == 0) {
        ++at;
        --count;
      }
    }
  }
}

void OpenShard::check(uint64_t clip, uint64_t row, size_t column, uint32_t found) const {
  if (found != crc_[row * layout_.checksums() + column]) [[unlikely]] {
    fail(Code::kData, name_, ", clip ", clip, ": the checksum of its ",
         layout_.checksum_names()[column], " is wrong; flipped bits", kRepairAdvice);
  }
}

// Addresses were checked against the size of the file, offsets within a row may be damaged.
const char* OpenShard::mapped(uint64_t offset, size_t size) const {
  if (size > record_.bytes() || offset > record_.bytes() - size) {
    fail(Code::kData, name_, " ends before byte ", offset, " + ", size, "; damaged", kRepairAdvice);
  }
  return static_cast<const char*>(mapping_) + offset;
}

}  // namespace lf
