#include "checkpoint/run_claim.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/host.h"
#include "base/log.h"
#include "base/text.h"
#include "base/utc.h"

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

std::string describe(const LifeRecord& who) {
  if (who.host().empty()) return "another process";
  return str("process ", who.pid(), " on ", printable(who.host()),
             who.job().empty() ? "" : " of job " + printable(who.job()), ", started ",
             utc_text(who.started_unix_seconds()));
}

std::string print(const LifeRecord& record) {
  std::string text;
  TextFormat::PrintToString(record, &text);
  return text;
}

// Unix time at which a process of this host started; 0: unknown.
double start_of(int64_t pid) {
  std::ifstream file(str("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(file)), {}), word;
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream words(text.substr(name_end + 1));
  constexpr int kStartTime = 20;  // the 22nd field, in clock ticks since boot
  for (int i = 0; i < kStartTime; ++i) words >> word;
  double ticks = 0;
  struct timespec up {};
  if (!parse(word, &ticks) || ::clock_gettime(CLOCK_BOOTTIME, &up) != 0) return 0;
  const double since_boot = ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return unix_now() - (static_cast<double>(up.tv_sec) - since_boot);
}

// Whether it was a process of this host and is none any more; a later one may have its number.
bool is_gone(const LifeRecord& who) {
  if (who.host() != host_name() || who.pid() <= 0) return false;
  if (::kill(static_cast<pid_t>(who.pid()), 0) != 0) return errno == ESRCH;
  constexpr double kClocks = 5;  // seconds by which the two clocks may differ
  return start_of(who.pid()) > who.started_unix_seconds() + kClocks;
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

LifeRecord read_record(FileSystem& files, const std::string& path) {
  return parse_record(read_file(files, path, 1 << 16));
}

// Creates `path` with `text` in it, durably; false if it exists.
bool create_exclusively(FileSystem& files, const std::string& path, const std::string& text) {
  const std::unique_ptr<OutFile> out = files.create_new(path);
  if (out == nullptr) return false;
  out->write(text.data(), text.size());
  out->sync();
  out->close();
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
    identity.restarts = 0;  // unset before the first restart
  }
  return identity;
}

// --- RunLock -------------------------------------------------------------------------------------

RunLock::RunLock(FileSystem& files, const std::string& run_folder, const JobIdentity& job)
    : files_(files), path_(run_folder + "/lock"), job_(job) {
  files_.make_folders(run_folder);
  const bool locked = lock();
  const LifeRecord holder = read_record(files_, path_);
  if (locked && !holder.host().empty()) {
    // Killed, most likely. Where locks do not reach across hosts it could also be alive on another;
    // then the life we claim next stops it at its next save.
    LF_INFO("the run was interrupted: ", describe(holder), ", was killed before it could end it");
  }
  if (!locked) {
    if (!holder.host().empty() && !is_gone(holder) && !is_predecessor(holder, job_)) {
      refuse(holder);
    }
  }
  file_->replace(print(record_of_this_process(job_)));
}

bool RunLock::lock() {
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    file_ = files_.open_lock(path_);
    switch (file_->try_lock()) {
      case LockFile::Lock::kUnsupported:
        return false;
      case LockFile::Lock::kTaken: {
        const LifeRecord holder = read_record(files_, path_);
        // Without a record: it has just begun, or it failed and its heir holds the lock.
        if (holder.host().empty() || is_gone(holder)) {
          await_heir(holder);
          break;
        }
        if (!is_predecessor(holder, job_)) refuse(holder);
        LF_WARN(printable(path_), " is still held by an earlier start of this job, ",
                describe(holder), "; taking the run over from it");
        files_.remove(path_);
        break;
      }
      case LockFile::Lock::kHeld:
        // The lock is on the file we opened; it counts only if the path still names that file.
        if (file_->is_current()) return true;
        break;
    }
  }
  fail(Code::kUsage, printable(path_),
       " changes hands all the time; are many jobs started on one run? start one");
}

void RunLock::await_heir(const LifeRecord& holder) const {
  constexpr double kLongest = 600, kToBeTold = 1;
  bool told = false;
  const Clock::time_point begin = Clock::now();
  while (file_->try_lock() == LockFile::Lock::kTaken &&
         read_record(files_, path_).pid() == holder.pid()) {
    if (seconds_since(begin) > kLongest) refuse(holder);
    if (!told && seconds_since(begin) > kToBeTold) {
      told = true;
      LF_INFO("waiting for the last state of ", describe(holder),
              ", which was killed, to be saved (", printable(path_), " is held)");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void RunLock::refuse(const LifeRecord& holder) const {
  fail(Code::kUsage, "the run is in use by ", describe(holder), " (", printable(path_),
       "); stop that one first, choose another run folder, or remove the lock if you are sure that "
       "it is gone");
}

RunLock::~RunLock() {
  try {
    file_->replace("");
  } catch (const std::exception& error) {
    LF_WARN("cannot empty ", printable(path_), ": ", error.what());
  }
}

RunHolder holder_of_run(FileSystem& files, const std::string& run_folder) {
  using State = RunHolder::State;
  const std::string path = run_folder + "/lock";
  if (!files.exists(path)) return {};
  RunHolder holder{State::kNobody, read_record(files, path)};
  if (holder.process.host().empty()) return holder;  // released
  if (holder.process.host() != host_name()) {
    holder.state = State::kElsewhere;
  } else if (!is_gone(holder.process)) {
    holder.state = State::kRunning;
  } else {
    holder.state = State::kGone;
  }
  return holder;
}

const char* RunHolder::name() const {
  switch (state) {
    case State::kNobody:
      return "";
    case State::kRunning:
      return "running";
    case State::kGone:
      return "interrupted";
    case State::kElsewhere:
      return "held by another host";
  }
  return "?";
}

std::string RunHolder::sentence(const std::string& run_folder) const {
  std::string text = str(name(), ": ", describe(process));
  if (state == State::kGone) {
    text += ", is gone; `lastframe train --run " + printable(run_folder) + "` resumes it";
  } else if (state == State::kElsewhere) {
    text += "; whether it lives can be told only there, or by the time of status.json";
  }
  return text;
}

// --- Life ----------------------------------------------------------------------------------------

std::vector<LifeRecord> read_lives(FileSystem& files, const std::string& run_folder) {
  std::vector<LifeRecord> lives;
  const std::string folder = run_folder + "/lives";
  if (!files.exists(folder)) return lives;
  for (const std::string& name : files.list(folder)) {
    int64_t number = 0;
    if (!parse(std::string_view(name), &number) || number <= 0) continue;
    LifeRecord record = read_record(files, folder + "/" + name);
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
             job.restarts, " and exits");
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
