#include "data/store/build_tally.h"

#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>

#include "base/text.h"
#include "data/store/build.h"

namespace lf {

BuildTally::BuildTally(std::string folder, int rank, int size, uint64_t total, Callback callback)
    : folder_(std::move(folder)),
      rank_(rank),
      size_(size),
      total_(total),
      callback_(std::move(callback)) {
  thread_ = std::jthread([this](const std::stop_token& token) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock<std::mutex> lock(mutex);
    while (!token.stop_requested()) {
      write_own();
      report();
      wake.wait_for(lock, token, std::chrono::seconds(1), [] { return false; });
    }
  });
}

BuildTally::~BuildTally() = default;

void BuildTally::finish() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  write_own();
  report();
}

std::string BuildTally::path_of(int rank) const {
  return str(folder_, "/progress-", rank, "-of-", size_);
}

// "made kept", written in place: no result depends on it.
void BuildTally::write_own() const {
  std::ofstream(path_of(rank_)) << items_ << ' ' << kept_ << '\n';
}

void BuildTally::report() {
  if (!callback_) return;
  BuildProgress all;
  all.total = total_;
  for (int rank = 0; rank < size_; ++rank) {
    uint64_t made = 0, kept = 0;
    if (std::ifstream in(path_of(rank)); !(in >> made >> kept)) continue;
    all.items += made + kept;
    all.kept += kept;
  }
  all.items = std::min(all.items, total_);
  callback_(all);
}

}  // namespace lf
