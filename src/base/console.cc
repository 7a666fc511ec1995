#include "base/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "base/text.h"

namespace lf {
namespace {

constexpr char kColumns[] = "LASTFRAME_COLUMNS";
constexpr char kFromStart[] = "\r", kEraseRest[] = "\x1b[K";

struct Status {
  std::mutex mutex;
  std::string text;  // "": none is on the screen
};

// Never destroyed: threads may log until the process ends.
Status& status() {
  static auto* const only = new Status;
  return *only;
}

void write(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

size_t console_columns() {
  constexpr size_t kUnknown = 80;
  if (::isatty(STDERR_FILENO) != 1) {
    uint64_t columns = 0;
    const char* told = std::getenv(kColumns);
    return told != nullptr && parse(told, &columns) ? (columns > 0 ? columns : kUnknown) : 0;
  }
  winsize window{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
  return known ? window.ws_col : kUnknown;
}

std::string news_line(int rank, const std::string& severity, const std::string& message) {
  return str(rank == 0 ? "" : str("[rank ", rank, "] "), severity, severity.empty() ? "" : ": ",
             message);
}

void console_line(const std::string& text) {
  Status& on_screen = status();
  const std::lock_guard<std::mutex> lock(on_screen.mutex);
  // Another rank's status line may stand on a terminal that several share.
  const bool shared = std::getenv(kColumns) != nullptr;
  if (on_screen.text.empty() && !shared) return write(text + "\n");
  write(kFromStart + std::string(kEraseRest) + text + "\n" + on_screen.text);
}

void console_status(const std::string& text) {
  Status& on_screen = status();
  const std::lock_guard<std::mutex> lock(on_screen.mutex);
  on_screen.text = text;
  write(kFromStart + text + kEraseRest);
}

void console_end_status() {
  Status& on_screen = status();
  const std::lock_guard<std::mutex> lock(on_screen.mutex);
  if (on_screen.text.empty()) return;
  on_screen.text.clear();
  write("\n");
}

}  // namespace lf
