#include "launch/store_tasks.h"

#include <memory>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/store/layout.h"
#include "launch/options/call.h"
#include "launch/output.h"

namespace lf {

namespace {

struct LeftOut {
  uint64_t items = 0, of = 0;  // of so many in the source
  double share() const { return static_cast<double>(items) / static_cast<double>(of); }
};

LeftOut left_out_of(const StoreIndex& index) {
  LeftOut left_out;
  for (const ShardRecord& record : index.shards()) left_out.items += record.quarantined();
  for (const StorePart& part : index.parts()) left_out.of += part.items();
  return left_out;
}

// "DIR/quarantine.txt lists them with the reasons, the first: REASON"
std::string where_and_why(const std::string& folder) {
  constexpr uint64_t kLargestList = uint64_t{1} << 30;
  const std::string path = quarantine_path(folder);
  FileSystem& files = real_file_system();
  std::vector<std::string> first;  // number, name, reason; the line before is a heading
  if (files.exists(path)) {
    const std::string list = read_file(files, path, kLargestList);
    const size_t begin = list.find('\n') + 1;
    first = split(list.substr(begin, list.find('\n', begin) - begin), '\t');
  }
  return str(printable(path), " lists them with the reasons",
             first.size() == 3 ? ", the first: " + printable(first[2], 300) : "");
}

}  // namespace

ReportedProgress::~ReportedProgress() {
  if (progress_) progress_->finish(done_);
}

void ReportedProgress::show(uint64_t done, uint64_t total, uint64_t found) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!progress_) progress_.emplace(title_, unit_, total);
  if (found > found_) progress_->found(found - found_);
  found_ = found;
  done_ = done;
  progress_->show(done);
}

uint32_t draw_of(const Arguments& arguments, const Store& store) {
  const std::string folder = printable(store.folder());
  check_needs(arguments, {{kRandomFrames, store.recipe().random(),
                           "those of " + folder + " are the same in every draw"}});
  const auto draw = static_cast<uint32_t>(arguments.integer("--draw"));
  const uint32_t draws = store.index().draws();
  if (draws > 0 && draw >= draws) {
    arguments.refuse("--draw is ", draw, ", and ", folder, " has ", draws,
                     draws == 1 ? " draw" : " draws", "; expected 0 to ", draws - 1);
  }
  return draw;
}

void report_store(const std::string& folder, bool as_json, double most_left_out) {
  const std::shared_ptr<const Store> store = Store::open(folder);
  const StoreIndex& index = store->index();
  uint64_t bytes = 0;
  for (const ShardRecord& record : index.shards()) bytes += record.bytes();
  const LeftOut left_out = left_out_of(index);
  if (as_json) {
    Json report;
    report.object([&] {
      report.field("store_id", index.store_id());
      report.field("clips", store->clips());
      report.field("shards", index.shards_size());
      report.field("bytes", bytes);
      report.field("quarantined", left_out.items);
    });
    print(report.text() + "\n");
  } else {
    print(str("wrote ", printable(folder), ": store ", index.store_id(), ", ",
              counted(store->clips(), "clip"), " of ", counted(index.frames(), "frame"), " of ",
              index.width(), "x", index.height(), " in ",
              counted(static_cast<uint64_t>(index.shards_size()), "shard"), ", ",
              human_bytes(bytes), "\n"));
  }
  if (left_out.items == 0) return;
  const std::string what =
      str(human_count(left_out.items), " of ", human_count(left_out.of), " items of the source (",
          human_share(left_out.share()), ") could not be used and were left out");
  if (left_out.share() <= most_left_out) {
    LF_WARN(what, "; ", where_and_why(folder));
    return;
  }
  fail(
      Code::kData, what, ", more than --most-left-out ", most_left_out, "; the store holds the ",
      "others and is whole. Mend the source and build into another folder, or accept the store by ",
      "the same command with a larger --most-left-out. ", where_and_why(folder));
}

}  // namespace lf
