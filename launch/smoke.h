// The tests of `doctor --smoke`, each collective over the world: an all-reduce whose sums are known
// exactly, a folder, and the delivery of SIGUSR1. They report failures, and throw only if MPI
// fails.
#pragma once

#include <cstdint>
#include <string>

#include "comm/world.h"

namespace lf {

struct AllReduceTrial {
  std::string backend;  // "mpi", "nccl"
  bool ok = false;      // on every rank
  int64_t bytes = 0;
  double seconds = 0;        // best round, slowest rank
  double bus_bandwidth = 0;  // bytes/s: 2 (n-1)/n bytes / seconds; 0 in a world of one
};

// float and int64, checked element by element, then timed. On GPUs if the plugin is open.
AllReduceTrial try_all_reduce(World& world, int64_t bytes);

struct FolderTrial {
  bool shared = false;  // every rank sees what rank 0 writes
  bool rename = false, fsync = false, flock = false, fcntl = false;
  double fsync_seconds = 0;  // of a published file, the slowest rank
  std::string trouble;       // of the lowest rank with any; "" if none
  bool ok() const { return shared && rename && fsync && flock && fcntl; }
};

FolderTrial try_folder(World& world, const std::string& folder);

// Every rank gets SIGUSR1 from another rank on its machine (itself if alone). The result is this
// rank's.
struct SignalTrial {
  bool ok = false;  // on this rank
  std::string trouble;
};

SignalTrial try_signal(World& world);

}  // namespace lf
