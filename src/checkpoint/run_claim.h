// Who may write into a run folder. Two guards, because neither is enough alone:
// RunLock keeps a second job out while the first is alive. Life numbers the starts of a run, so
// that a process that should be dead (its node was given up, the job restarted elsewhere) can never
// publish over what a newer start wrote, even where file locks do not reach across nodes.
// Only rank 0 holds them. Called by the coordinator; begin_checkpoint() and commit_checkpoint()
// ask.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "record.pb.h"

namespace lf {

// The batch system's name for this job and how often it restarted it. SLURM keeps the job's number
// when it requeues. Outside of a batch system the name is "".
struct JobIdentity {
  std::string job;
  int64_t restarts = 0;
};
JobIdentity job_from_environment();

// RUN/lock, held until destruction. Held by a living process: Code::kUsage telling who it is. A
// later start of the same job takes over from an earlier one. Where the file system has no locks,
// the holder's record decides: dead if its process on this host is gone; if it is on another host,
// the message tells how to remove a stale lock.
class RunLock {
 public:
  RunLock(const std::string& run_folder, const JobIdentity& job);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  bool lock_by_system();  // false: the file system knows no locks
  void refuse(const LifeRecord& holder) const;
  void write_record(const JobIdentity& job);

  std::string path_;
  JobIdentity job_;
  int fd_ = -1;
};

// One start of a run. Lives are files RUN/lives/NNNNNN, made exclusively, so no two starts share a
// number; they are never removed while a checkpoint could need them.
//
// What remains: between check() and the rename that publishes, a newer life may begin. Then the
// rename either fails (the newer life has published that position) or adds a checkpoint that the
// newer life and all later ones refuse, since it lies past the point the newer life began from
// (belongs_to_history). Nothing is overwritten, nothing is resumed from.
class Life {
 public:
  // The next number. Code::kUsage if a later restart of the same job has already begun.
  static Life claim(FileSystem& files, const std::string& run_folder, const JobIdentity& job);

  int64_t number() const { return record_.life(); }
  // Records where this life begins (0: from scratch), before it publishes anything.
  void resumed_from(FileSystem& files, int64_t images);
  // Code::kUsage if a newer life has begun.
  void check(FileSystem& files) const;

  // Work on the run's files that may fail because a newer life, which clears away what older ones
  // left, has begun meanwhile: that is then the reason given, as by check().
  void while_newest(FileSystem& files, const std::function<void()>& work) const;

 private:
  Life(std::string run_folder, LifeRecord record)
      : run_folder_(std::move(run_folder)), record_(std::move(record)) {}

  std::string run_folder_;
  LifeRecord record_;
};

// All lives on record, oldest first. A torn record keeps its number and says nothing else.
std::vector<LifeRecord> read_lives(FileSystem& files, const std::string& run_folder);

// False if a life later than `life` began from before `images`: a checkpoint of `life` at `images`
// was published by a process that should have been dead, or was rewound past.
bool belongs_to_history(const std::vector<LifeRecord>& lives, int64_t life, int64_t images);

}  // namespace lf
