#include "launch/store_tasks.h"

#include <sched.h>

#include <algorithm>
#include <memory>

#include "base/json.h"
#include "base/log.h"
#include "data/store/store.h"
#include "launch/output.h"

namespace lf {

static uint64_t quarantined_in(const StoreIndex& index) {
  uint64_t quarantined = 0;
  for (const ShardRecord& record : index.shards()) quarantined += record.quarantined();
  return quarantined;
}

int threads_for(int wanted, int ranks_here) {
  if (wanted > 0) return wanted;
  cpu_set_t set;
  const int cores = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, cores / std::max(1, ranks_here));
}

ProgressBar::~ProgressBar() {
  if (progress_) progress_->finish(done_);
}

void ProgressBar::show(uint64_t done, uint64_t total) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!progress_) progress_.emplace(title_, unit_, total, done);
  done_ = done;
  progress_->show(done);
}

void report_store(const std::string& folder, bool as_json) {
  const std::shared_ptr<const Store> store = Store::open(folder);
  const StoreIndex& index = store->index();
  uint64_t bytes = 0;
  for (const ShardRecord& record : index.shards()) bytes += record.bytes();
  const uint64_t quarantined = quarantined_in(index);
  if (quarantined > 0) {
    LF_WARN(human_count(quarantined), " items of the source were unusable and left out; ",
            printable(folder), "/quarantine.txt lists them with the reasons");
  }
  if (!as_json) {
    print(str("store ", index.store_id(), " in ", printable(folder), ": ",
              human_count(store->clips()), " clips of ", index.frames(), " frames in ",
              human_count(static_cast<uint64_t>(index.shards_size())), " shards, ",
              human_bytes(bytes), "\n"));
    return;
  }
  Json report;
  report.object([&] {
    report.field("store_id", index.store_id());
    report.field("clips", store->clips());
    report.field("shards", index.shards_size());
    report.field("bytes", bytes);
    report.field("quarantined", quarantined);
  });
  print(report.text() + "\n");
}

}  // namespace lf
