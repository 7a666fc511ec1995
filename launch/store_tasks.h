// What the commands that write and check stores share.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "base/progress.h"

namespace lf {

// `wanted`, or where it is 0 this rank's share of the cores that the process may use.
int threads_for(int wanted, int ranks_here);

// A progress bar that begins with the first report, which brings the total. Thread-safe.
class ProgressBar {
 public:
  ProgressBar(std::string title, std::string unit)
      : title_(std::move(title)), unit_(std::move(unit)) {}
  ~ProgressBar();
  void show(uint64_t done, uint64_t total);

 private:
  std::string title_, unit_;
  std::mutex mutex_;
  std::optional<Progress> progress_;
  uint64_t done_ = 0;
};

// Prints what the finished store holds; warns of items that were left out.
void report_store(const std::string& folder, bool as_json);

}  // namespace lf
