// The `lastframe` processes that do the work of a sweep: started, waited for, and told to stop when
// this process is. Knows no sweep.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"

namespace lf {

struct ChildSettings {
  std::string program;                                 // this program
  std::string logs;                                    // a folder; what children report goes there
  int ranks = 1;                                       // of those that are started on all ranks
  Clock::time_point until = Clock::time_point::max();  // when those that still run are killed
};

// Safe to use from several threads. A stop (base/stop.h) reaches every child as a signal that lets
// it save its state; when this process dies, its children go too.
class Children {
 public:
  explicit Children(ChildSettings settings);

  enum class On { kOneProcess, kAllRanks };
  // What `lastframe WORDS` prints on stdout. Throws Code::kInterrupted if it stopped because this
  // process was asked to; the child's status and its last words if it failed.
  std::string call(const std::vector<std::string>& words, const std::string& log,
                   On on = On::kOneProcess) const;
  // The last line of it, of a call with --json.
  std::string json(std::vector<std::string> words, const std::string& log,
                   On on = On::kOneProcess) const;

  int ranks() const { return settings_.ranks; }

 private:
  std::vector<std::string> command_of(const std::vector<std::string>& words, On on) const;

  ChildSettings settings_;
  std::vector<std::string> launcher_;  // before program and words
  bool local_ = false;                 // launch/local: it finds the program by itself
};

// The path of the program that runs.
std::string own_program();

// What another program prints on stdout, found by PATH. Throws Code::kUsage if it fails.
std::string output_of(const std::vector<std::string>& words, const std::string& log);

}  // namespace lf
