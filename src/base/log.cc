#include "base/log.h"

#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/console.h"

namespace lf {
namespace {

int g_rank = 0;
std::FILE* g_file = nullptr;
std::mutex g_mutex;

// Under g_mutex.
void write_to_file(const std::string& line) {
  if (g_file == nullptr) return;
  std::fputs((line + "\n").c_str(), g_file);
  std::fflush(g_file);
}

// glog formats the log file's lines; this sink decides where a message goes. glog's own files (one
// a severity, links, pids in names) do not suit a run folder.
class RankSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/, const char* base_filename,
            int line, const google::LogMessageTime& time, const char* message,
            size_t length) override {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (g_rank == 0 || severity >= google::GLOG_WARNING) {
      const char* grave = severity == google::GLOG_INFO      ? ""
                          : severity == google::GLOG_WARNING ? "warning"
                                                             : "error";
      console_line(news_line(g_rank, grave, std::string(message, length)));
    }
    write_to_file(ToString(severity, base_filename, line, time, message, length));
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
      str("lastframe: ", g_rank == 0 ? "" : str("rank ", g_rank, ": "), message);
  console_end_status();
  console_line(text);
  write_to_file(text);
}

}  // namespace lf
