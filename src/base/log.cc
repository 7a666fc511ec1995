#include "base/log.h"

#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace lf {
namespace {

int g_rank = 0;
std::FILE* g_file = nullptr;
std::mutex g_mutex;

// glog formats; this sink decides where a line goes. glog's own files (one a severity, links, pids
// in names) do not suit a run folder.
class RankSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/, const char* base_filename,
            int line, const google::LogMessageTime& time, const char* message,
            size_t length) override {
    const std::string text = ToString(severity, base_filename, line, time, message, length) + "\n";
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (g_rank == 0 || severity >= google::GLOG_WARNING) {
      const std::string prefix = g_rank == 0 ? "" : str("[rank ", g_rank, "] ");
      std::fputs((prefix + text).c_str(), stderr);
    }
    if (g_file != nullptr) {
      std::fputs(text.c_str(), g_file);
      std::fflush(g_file);
    }
  }
};

}  // namespace

void start_log(const std::string& program, int rank) {
  static RankSink sink;
  static const std::string name = program;  // glog keeps the pointer
  static std::once_flag once;
  g_rank = rank;
  std::call_once(once, [] {
    FLAGS_logtostderr = false;
    FLAGS_alsologtostderr = false;
    FLAGS_stderrthreshold = google::NUM_SEVERITIES;  // the sink prints
    for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
      google::SetLogDestination(severity, "");  // no files of glog's own
    }
    google::InitGoogleLogging(name.c_str());
    google::AddLogSink(&sink);
  });
}

void open_log_file(const std::string& folder) {
  ::mkdir(folder.c_str(), 0777);
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/rank-%04d.log", g_rank);
  const std::string path = folder + name.data();
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (g_file != nullptr) std::fclose(g_file);
  g_file = std::fopen(path.c_str(), "ae");
  if (g_file == nullptr) {
    std::fprintf(stderr, "lastframe: cannot write the log file %s: %s; continuing without it\n",
                 path.c_str(), std::strerror(errno));
  }
}

void log_line(Severity severity, const char* file, int line, const std::string& message) {
  google::LogMessage(file, line, static_cast<google::LogSeverity>(severity)).stream() << message;
}

void log_fatal_line(const std::string& message) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  const std::string text =
      str("lastframe: ", g_rank == 0 ? "" : str("rank ", g_rank, ": "), message, "\n");
  std::fputs(text.c_str(), stderr);
  if (g_file != nullptr) {
    std::fputs(text.c_str(), g_file);
    std::fflush(g_file);
  }
}

}  // namespace lf
