// Which checkpoints a run has, which one to resume from, when the next is due and which older ones
// to remove. Knows no torch and no MPI.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/manifest.h"
#include "record.pb.h"
#include "run.pb.h"

namespace lf {

enum class Standing {
  kWhole,
  kDamaged,      // or half copied, or half removed
  kNewerFormat,  // of a newer program, whole or not
  kStray,        // published by a life after a newer one had begun
};

struct Candidate {
  std::string folder;
  int64_t images = 0;
  Standing standing = Standing::kDamaged;
  std::string reason;           // why it is refused; "" if it is whole
  CheckpointManifest manifest;  // empty unless whole or stray
  bool valid() const { return standing == Standing::kWhole; }
};

// Everything in RUN/checkpoints that has a checkpoint's name, newest first.
std::vector<Candidate> list_checkpoints(FileSystem& files, const std::string& run_folder,
                                        Depth depth);

// The newest whole one, every byte compared; what was passed over is logged. Nothing if the run has
// no checkpoints (strays do not count). Code::kCheckpoint, with each reason, if it has some but
// none that is whole, or if the newest was written by a newer program: resuming from an older
// one would lose work.
std::optional<Candidate> choose_checkpoint(FileSystem& files, const std::string& run_folder);

// At start, after claiming a life: removes what unfinished saves and removals of older lives left,
// and logs it. Returns how many.
int remove_leftovers(FileSystem& files, const std::string& run_folder, int64_t life);

// Seconds from one save by time to the next, if a save takes `cost` seconds: as short as keeps the
// cost under 1% of the time, from one minute to checkpoint.every_minutes. 0: none by time.
double seconds_between_saves(const CheckpointConfig& config, double cost);

// The folders to remove, given all candidates: those the config does not keep. Never the newest
// whole one, nor anything newer than it, nor a newer program's, nor one that awaits metrics.
std::vector<std::string> prunable(const CheckpointConfig& config,
                                  const std::vector<Candidate>& candidates,
                                  const std::vector<std::vector<NamedNumber>>& metrics);

// After a commit: looks at the newest (all of it with read_back) and, only if it is whole, removes
// what the config does not keep. Returns the removed folders. Code::kCheckpoint if the newest is
// not whole; nothing was removed then.
std::vector<std::string> prune_checkpoints(FileSystem& files, const std::string& run_folder,
                                           const CheckpointConfig& config, const Life& life);

}  // namespace lf
