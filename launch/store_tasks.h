// What the commands that write, read and check stores share.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "base/progress.h"
#include "data/store/store.h"
#include "launch/options/arguments.h"

namespace lf {

// Progress that begins with the first report, which brings the total. Thread-safe.
class ReportedProgress {
 public:
  ReportedProgress(std::string title, std::string unit)
      : title_(std::move(title)), unit_(std::move(unit)) {}
  ~ReportedProgress();
  // `found`: of what is done, what was found done.
  void show(uint64_t done, uint64_t total, uint64_t found = 0);

 private:
  std::string title_, unit_;
  std::mutex mutex_;
  std::optional<Progress> progress_;
  uint64_t done_ = 0, found_ = 0;
};

// Of --draw.
inline constexpr char kRandomFrames[] = "random corruptions";
// The draw that --draw chooses of this store's. Code::kUsage for one that it does not have.
uint32_t draw_of(const Arguments& arguments, const Store& store);

// Prints what the finished store holds and warns of items that were left out. Throws Code::kData,
// when it has reported, if those are more than the share `most_left_out` of the source.
void report_store(const std::string& folder, bool as_json, double most_left_out = 1);

}  // namespace lf
