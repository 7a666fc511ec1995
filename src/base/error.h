// The program's one exception type and the codes it carries. Whatever a user, a disk or a peer can
// cause is thrown as an Error: its message names the object, the fact, what was expected and what
// to do next; its code is the exit code of the process. LF_CHECK is for our own bugs only.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/text.h"

namespace lf {

// The process's exit codes. Launchers restart a job on kInterrupted and on nothing else.
enum class Code : int {
  kOk = 0,            // done, or stopped by a STOP file, or a slice finished
  kBug = 1,           // a bug of this program
  kUsage = 2,         // a wrong option, value or config; another config at resume
  kData = 3,          // the store or a source is damaged
  kCheckpoint = 4,    // no usable checkpoint
  kNotFinite = 5,     // the loss stayed NaN or infinite
  kPeer = 6,          // another rank is lost or hangs
  kStorage = 7,       // storage cannot be written
  kInterrupted = 75,  // asked to stop; to be started again
};

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  Code code() const noexcept { return code_; }
  int exit_status() const noexcept { return static_cast<int>(code_); }

 private:
  Code code_;
  std::string message_;
};

// throw Error(code, str(parts...)).
template <typename... Parts>
[[noreturn]] void fail(Code code, const Parts&... parts) {
  throw Error(code, ::lf::str(parts...));  // qualified: torch has one too
}

[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               const std::string& message);

// A broken promise between parts of this program: throws Code::kBug with the place.
#define LF_CHECK(condition, ...)                                                     \
  do {                                                                               \
    if (!(condition)) [[unlikely]]                                                   \
      ::lf::check_failed(#condition, __FILE__, __LINE__, ::lf::str("" __VA_ARGS__)); \
  } while (false)

}  // namespace lf
