// Who may write into a run folder. A run's *life* is one start of it: the job's first, each
// restart, each resume. Lives are numbered 1, 2, 3, ... by the files RUN/lives/NNNNNN.
//
// Two guards, because neither is enough alone. RunLock keeps a second job out while the first one
// runs. Life fences: a process that should be dead (its node was given up, the job restarted
// elsewhere) never publishes over what a newer life wrote, even where file locks do not reach
// across nodes. Only rank 0 holds them; begin_checkpoint() and commit_checkpoint() check the life.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "record.pb.h"

namespace lf {

// The batch system's name of this job ("" without one) and how often it has restarted the job.
// SLURM keeps a job's number when it requeues it.
struct JobIdentity {
  std::string job;
  int64_t restarts = 0;
};
JobIdentity job_from_environment();

// RUN/lock, held until destruction. If another process holds it: Code::kUsage naming that process,
// unless it is an earlier start of the same job, whose lock is taken over. If the holder's process
// is gone but the lock is not free, another that it left behind saves the holder's last state
// (train/heir.h): waits for that. Where the file system has no locks, the holder's record decides:
// the holder is dead if its process on this host is gone; on another host it counts as alive, and
// the message says how to remove a stale lock.
class RunLock {
 public:
  RunLock(FileSystem& files, const std::string& run_folder, const JobIdentity& job);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  bool lock();  // false: the file system has no locks
  void await_heir(const LifeRecord& holder) const;
  [[noreturn]] void refuse(const LifeRecord& holder) const;

  FileSystem& files_;
  std::string path_;
  JobIdentity job_;
  std::unique_ptr<LockFile> file_;
};

// Who holds a run, as far as can be told from this host without disturbing it.
struct RunHolder {
  enum class State { kNobody, kRunning, kGone, kElsewhere };
  State state = State::kNobody;
  LifeRecord process;  // of all but kNobody
  // "running", "interrupted", "held by another host", "" of kNobody.
  const char* name() const;
  // "running: process 7 on host, started ...".
  std::string sentence(const std::string& run_folder) const;
};
// kGone: its process on this host ended without releasing the run, so the run was interrupted.
// kElsewhere: held by a process of another host, which may live.
RunHolder holder_of_run(FileSystem& files, const std::string& run_folder);

// This process's life. Its file is created exclusively, so no two starts share a number, and is
// never removed while a checkpoint could need it.
//
// What remains: between check() and the rename that publishes, a newer life may begin. Then the
// rename either fails (the newer life has published that position) or adds a checkpoint that the
// newer life and all later ones refuse, since it is past the position where the newer life began
// (belongs_to_history). Nothing is overwritten, and nothing resumes from it.
class Life {
 public:
  // Claims the next number. Code::kUsage if a later restart of the same job has already begun.
  static Life claim(FileSystem& files, const std::string& run_folder, const JobIdentity& job);

  int64_t number() const { return record_.life(); }
  // Records the position this life resumes from (0: from scratch), before it publishes anything.
  void resumed_from(FileSystem& files, int64_t images);
  // Code::kUsage if a newer life has begun.
  void check(FileSystem& files) const;

  // Runs `work` on the run's files. If it fails and a newer life has begun, which removes what
  // older ones left, throws that as the reason, as check() does.
  void while_newest(FileSystem& files, const std::function<void()>& work) const;

 private:
  Life(std::string run_folder, LifeRecord record)
      : run_folder_(std::move(run_folder)), record_(std::move(record)) {}

  std::string run_folder_;
  LifeRecord record_;
};

// All recorded lives, oldest first. A torn record keeps its number and nothing else.
std::vector<LifeRecord> read_lives(FileSystem& files, const std::string& run_folder);

// Whether a checkpoint of `life` at `images` is part of the run's history. False if a later life
// began from before `images`: the checkpoint was published by a process that should have been dead,
// or the run was rewound past it.
bool belongs_to_history(const std::vector<LifeRecord>& lives, int64_t life, int64_t images);

}  // namespace lf
