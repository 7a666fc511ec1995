// Saves the last state of a run whose process is killed before it can: mpirun kills its ranks a
// second after it has told them to stop, and a step may take longer. At the first signal to stop,
// this process forks a heir, which mpirun does not know. While the process lives, the heir waits;
// once it is gone, the heir saves the state as it was after the last whole step. Costs nothing
// before the signal, then what a fork costs. For tensors in host memory, on rank 0, since every
// rank holds the whole state.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace lf {

class Heir {
 public:
  // `save` saves the state of that many images, in the heir. The lock of the run stays held by it.
  Heir(std::string run_folder, std::function<void(int64_t images)> save);
  ~Heir();  // no heir is needed any more, unless an error unwinds
  Heir(const Heir&) = delete;
  Heir& operator=(const Heir&) = delete;

  // The state is whole, after so many images, until unsettle().
  void settle(int64_t images);
  // Before the state changes. Waits for a fork that is under way.
  void unsettle();

 private:
  void watch();
  void fork_heir();
  [[noreturn]] void inherit(pid_t parent);

  const std::string run_folder_;
  const std::function<void(int64_t)> save_;
  std::mutex changing_;  // held while the state is not whole
  bool whole_ = true;    // by the thread that trains
  int64_t images_ = 0;
  pid_t heir_ = 0;
  std::atomic<bool> ended_{false};
  std::thread watch_;
};

}  // namespace lf
