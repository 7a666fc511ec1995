// A file that grows by whole records: metrics, events. Storage that is full costs a warning, and
// the records wait in memory until there is room, because a run that can still train must not end
// for its log. Not for anything that has to be durable.
#pragma once

#include <string>
#include <string_view>

namespace lf {

class LogFile {
 public:
  // Opens `path` for appending; Code::kStorage if that cannot be.
  explicit LogFile(const std::string& path);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  void append(std::string_view record);
  // Hands what was appended to the operating system.
  void flush();

 private:
  const std::string path_;
  int fd_;
  std::string waiting_;
  bool warned_ = false;
};

}  // namespace lf
