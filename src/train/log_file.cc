#include "train/log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/log.h"

namespace lf {
namespace {

constexpr size_t kMostWaiting = 64 << 20;

}  // namespace

LogFile::LogFile(const std::string& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail(Code::kStorage, "cannot write ", path, ": ", std::strerror(errno));
}

LogFile::~LogFile() {
  flush();
  ::close(fd_);
}

// Rather than take the run's memory, the newest records are given up.
void LogFile::append(std::string_view record) {
  if (waiting_.size() + record.size() <= kMostWaiting) waiting_ += record;
}

// A part that was written is not written again, so that records never repeat or tear in the middle.
void LogFile::flush() {
  while (!waiting_.empty()) {
    const ssize_t written = ::write(fd_, waiting_.data(), waiting_.size());
    if (written > 0) {
      waiting_.erase(0, static_cast<size_t>(written));
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    if (!warned_) {
      LF_WARN("cannot write ", path_, ": ", std::strerror(errno),
              "; what belongs there waits in memory until it can be written");
    }
    warned_ = true;
    return;
  }
  warned_ = false;
}

}  // namespace lf
