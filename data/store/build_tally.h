// The progress of a build over all its ranks. Each rank writes a small file in the store's building
// folder and adds up the files of all ranks, so it works under mpirun and in a SLURM array alike.
// No result depends on it: a late, torn or missing file only makes what is shown wrong for a
// moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

namespace lf {

struct BuildProgress;

class BuildTally {
 public:
  using Callback = std::function<void(const BuildProgress&)>;
  BuildTally(std::string folder, int rank, int size, uint64_t total, Callback callback);
  ~BuildTally();

  std::atomic<uint64_t>& items() { return items_; }  // made by this process
  void keep(uint64_t items) { kept_ += items; }      // in shards found finished
  void finish();                                     // writes and reports for the last time

 private:
  void write_own() const;
  void report();
  std::string path_of(int rank) const;

  std::string folder_;
  int rank_, size_;
  uint64_t total_;
  Callback callback_;
  std::atomic<uint64_t> items_ = 0, kept_ = 0;
  std::jthread thread_;
};

}  // namespace lf
