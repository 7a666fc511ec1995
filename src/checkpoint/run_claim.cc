#include "checkpoint/run_claim.h"

#include <fcntl.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/host.h"
#include "base/log.h"
#include "base/text.h"

namespace lf {
namespace {

using google::protobuf::TextFormat;

LifeRecord record_of_this_process(const JobIdentity& job) {
  LifeRecord record;
  record.set_host(host_name());
  record.set_pid(::getpid());
  record.set_job(job.job);
  record.set_restarts(job.restarts);
  record.set_started_unix_seconds(unix_now());
  return record;
}

std::string when(double unix_seconds) {
  const auto seconds = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  std::array<char, 32> text{};
  ::gmtime_r(&seconds, &parts);
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

std::string describe(const LifeRecord& who) {
  if (who.host().empty()) return "another process";
  return str("process ", who.pid(), " on ", printable(who.host()),
             who.job().empty() ? "" : " of job " + printable(who.job()), ", started ",
             when(who.started_unix_seconds()));
}

std::string print(const LifeRecord& record) {
  std::string text;
  TextFormat::PrintToString(record, &text);
  return text;
}

// An earlier start of the same job: its batch system gave it up before it started us.
bool is_predecessor(const LifeRecord& holder, const JobIdentity& job) {
  return !job.job.empty() && holder.job() == job.job && holder.restarts() < job.restarts;
}

std::string life_path(const std::string& run_folder, int64_t number) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/lives/%06lld", static_cast<long long>(number));
  return run_folder + name.data();
}

LifeRecord parse_record(const std::string& text) {
  LifeRecord record;
  TextFormat::Parser parser;
  class Silence : public google::protobuf::io::ErrorCollector {
    void AddError(int, int, const std::string&) override {}
  } silence;
  parser.RecordErrorsTo(&silence);
  if (!parser.ParseFromString(text, &record)) record.Clear();
  return record;
}

// Makes `path` unless somebody did before, with `text` in it, durably.
bool create_exclusively(FileSystem& files, const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0 && errno == EEXIST) return false;
  const bool good = fd >= 0 &&
                    ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                    ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!good) {
    fail(Code::kStorage, "cannot claim the run with ", printable(path), ": ", std::strerror(error),
         "; free some space or choose a folder you may write to");
  }
  files.sync_folder(parent_folder(path));
  return true;
}

}  // namespace

JobIdentity job_from_environment() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  JobIdentity identity;
  const std::string job = variable("SLURM_JOB_ID");
  if (job.empty()) return identity;
  identity.job = "slurm-" + job;
  if (!parse(std::string_view(variable("SLURM_RESTART_COUNT")), &identity.restarts)) {
    identity.restarts = 0;  // unset in the first life
  }
  return identity;
}

// --- RunLock
// --------------------------------------------------------------------------------------

RunLock::RunLock(const std::string& run_folder, const JobIdentity& job)
    : path_(run_folder + "/lock"), job_(job) {
  real_file_system().make_folders(run_folder);
  const bool locked = lock_by_system();
  const LifeRecord holder = parse_record(read_file(real_file_system(), path_, 1 << 16));
  if (locked && !holder.host().empty()) {
    // Killed, most likely. Where locks reach no further than one host it could also be alive on
    // another; then the life we claim next stops it at its next save.
    LF_INFO("the run was last held by ", describe(holder), ", which ended without releasing it");
  }
  if (!locked) {
    const bool ours_to_judge = holder.host() == host_name() && holder.pid() > 0;
    const bool dead =
        ours_to_judge && ::kill(static_cast<pid_t>(holder.pid()), 0) != 0 && errno == ESRCH;
    if (!holder.host().empty() && !dead && !is_predecessor(holder, job)) refuse(holder);
  }
  write_record(job);
}

bool RunLock::lock_by_system() {
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) {
      fail(Code::kStorage, "cannot open ", printable(path_), ": ", std::strerror(errno),
           "; choose a run folder you may write to");
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) {
        ::close(std::exchange(fd_, -1));
        continue;
      }
      if (errno != EWOULDBLOCK) return false;
      const LifeRecord holder = parse_record(read_file(real_file_system(), path_, 1 << 16));
      ::close(std::exchange(fd_, -1));
      if (!is_predecessor(holder, job_)) refuse(holder);
      LF_WARN(printable(path_), " is still held by an earlier start of this job, ",
              describe(holder), "; taking the run over from it");
      if (::unlink(path_.c_str()) != 0 && errno != ENOENT) refuse(holder);
      continue;
    }
    // The lock is on the file we opened; it counts only if that is still the file of this name.
    struct stat opened {
    }, named{};
    if (::fstat(fd_, &opened) == 0 && ::stat(path_.c_str(), &named) == 0 &&
        opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      return true;
    }
    ::close(std::exchange(fd_, -1));
  }
  fail(Code::kUsage, printable(path_),
       " changes hands all the time; are many jobs started on one "
       "run? start one");
}

void RunLock::refuse(const LifeRecord& holder) const {
  if (fd_ >= 0) ::close(fd_);
  fail(Code::kUsage, "the run is in use by ", describe(holder), " (", printable(path_),
       "); stop that one first, choose another run folder, or remove the lock if you are sure that "
       "it is gone");
}

void RunLock::write_record(const JobIdentity& job) {
  const std::string text = print(record_of_this_process(job));
  if (::ftruncate(fd_, 0) != 0 ||
      ::pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::fsync(fd_) != 0) {
    const int error = errno;
    ::close(std::exchange(fd_, -1));
    fail(Code::kStorage, "cannot write ", printable(path_), ": ", std::strerror(error),
         "; free some space or choose a folder you may write to");
  }
}

RunLock::~RunLock() {
  if (fd_ < 0) return;
  if (::ftruncate(fd_, 0) != 0) LF_WARN("cannot empty ", printable(path_));
  ::close(fd_);  // which also unlocks
}

// --- Life
// -----------------------------------------------------------------------------------------

std::vector<LifeRecord> read_lives(FileSystem& files, const std::string& run_folder) {
  std::vector<LifeRecord> lives;
  const std::string folder = run_folder + "/lives";
  if (!files.exists(folder)) return lives;
  for (const std::string& name : files.list(folder)) {
    int64_t number = 0;
    if (!parse(std::string_view(name), &number) || number <= 0) continue;
    LifeRecord record = parse_record(read_file(files, folder + "/" + name, 1 << 16));
    record.set_life(number);
    lives.push_back(std::move(record));
  }
  std::sort(lives.begin(), lives.end(),
            [](const LifeRecord& a, const LifeRecord& b) { return a.life() < b.life(); });
  return lives;
}

Life Life::claim(FileSystem& files, const std::string& run_folder, const JobIdentity& job) {
  files.make_folders(run_folder + "/lives");
  files.sync_folder(run_folder);
  LifeRecord record = record_of_this_process(job);
  while (true) {
    int64_t newest = 0;
    for (const LifeRecord& other : read_lives(files, run_folder)) {
      newest = std::max(newest, other.life());
      if (!job.job.empty() && other.job() == job.job && other.restarts() > job.restarts) {
        fail(Code::kUsage, "restart ", other.restarts(), " of job ", printable(job.job),
             " has taken this run over (", describe(other), "); this process is of restart ",
             job.restarts, " and ends");
      }
    }
    record.set_life(std::max(newest, job.restarts) + 1);
    if (create_exclusively(files, life_path(run_folder, record.life()), print(record))) {
      return {run_folder, std::move(record)};
    }
  }
}

void Life::resumed_from(FileSystem& files, int64_t images) {
  record_.set_resumed_from_images(images);
  publish_file(files, life_path(run_folder_, number()), print(record_));
}

void Life::check(FileSystem& files) const {
  int64_t newest = 0;
  for (const std::string& name : files.list(run_folder_ + "/lives")) {
    int64_t life = 0;
    if (parse(std::string_view(name), &life)) newest = std::max(newest, life);
  }
  if (newest <= number()) return;
  fail(Code::kUsage, "a newer start has taken the run over (life ", newest, ", ",
       describe(read_lives(files, run_folder_).back()), "); this process is life ", number(),
       " and publishes nothing any more");
}

void Life::while_newest(FileSystem& files, const std::function<void()>& work) const {
  try {
    work();
  } catch (const Error&) {
    check(files);
    throw;
  }
}

bool belongs_to_history(const std::vector<LifeRecord>& lives, int64_t life, int64_t images) {
  return std::none_of(lives.begin(), lives.end(), [&](const LifeRecord& later) {
    return later.life() > life && later.has_resumed_from_images() &&
           later.resumed_from_images() < images;
  });
}

}  // namespace lf
