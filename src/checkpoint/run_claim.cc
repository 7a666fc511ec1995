#include "checkpoint/run_claim.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
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
    LF_INFO("the run was last held by ", describe(holder), ", which ended without releasing it");
  }
  if (!locked) {
    const bool ours_to_judge = holder.host() == host_name() && holder.pid() > 0;
    const bool dead =
        ours_to_judge && ::kill(static_cast<pid_t>(holder.pid()), 0) != 0 && errno == ESRCH;
    if (!holder.host().empty() && !dead && !is_predecessor(holder, job_)) refuse(holder);
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
