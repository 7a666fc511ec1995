#include "data/store/build.h"

#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/host.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "data/store/build_tally.h"
#include "data/store/identity.h"
#include "data/store/shard.h"

namespace lf {
namespace {

[[noreturn]] void refuse_other_store(const std::string& folder, const StoreIndex& there,
                                     const StoreIndex& ours) {
  fail(Code::kUsage, printable(folder), " holds another store (", there.store_id(),
       "); build into another folder, or remove it. It differs in: ",
       join(plan_differences(there, ours), "; "));
}

// The plan of the build that has begun in the folder; nullopt if there is none, or only its index.
// Throws if that build was of another store than `plan`.
std::optional<StoreIndex> plan_there(FileSystem& files, const std::string& folder,
                                     const StoreIndex& plan) {
  std::optional<StoreIndex> there;
  for (const std::string& path : {plan_path(folder), index_path(folder)}) {
    if (!files.exists(path)) continue;
    StoreIndex old = read_index(files, path);
    old.clear_shards();
    if (!same_store(old, plan)) refuse_other_store(folder, old, plan);
    if (path == plan_path(folder)) there = std::move(old);
  }
  return there;
}

// The first file in the folder that no build of this program puts there; empty if there is none.
std::string foreign_name(FileSystem& files, const std::string& folder) {
  for (const std::string& name : files.list(folder)) {
    const bool ours =
        name == "building" || (name == "shards" && files.list(shards_folder(folder)).empty());
    if (!ours && name != "index") return name;
  }
  return {};
}

// The plan of the build that has begun here, if one has; throws Code::kUsage if the folder is in
// other use. A faster rank may publish the plan and its first shards meanwhile, so a file that
// seems foreign is refused only after looking for the plan a second time.
std::optional<StoreIndex> begun_build(FileSystem& files, const std::string& folder,
                                      const StoreIndex& plan) {
  if (auto there = plan_there(files, folder, plan)) return there;
  const std::string foreign = foreign_name(files, folder);
  if (foreign.empty()) return {};
  if (auto there = plan_there(files, folder, plan)) return there;
  fail(Code::kUsage, printable(folder), " holds '", printable(foreign),
       "' and no store of this program; choose a new or empty folder");
}

std::string prefix_of_rank(int rank) { return str("r", rank, "-"); }

// Removes the temporary files of a killed process of this rank.
void remove_leftovers(FileSystem& files, const std::string& folder, int rank) {
  try {
    for (const std::string& name : files.list(building_folder(folder))) {
      if (!name.starts_with(prefix_of_rank(rank))) continue;
      files.remove(building_folder(folder) + "/" + name);
    }
  } catch (const Error&) {
    if (files.exists(building_folder(folder))) throw;  // else another rank has just finished
  }
}

std::string quarantine_text(const std::vector<ShardTrailer>& trailers) {
  std::string text;
  for (const ShardTrailer& trailer : trailers) {
    for (const QuarantinedItem& item : trailer.quarantine()) {
      text += str(item.item(), "\t", printable(item.name(), 4096), "\t",
                  printable(item.reason(), 4096), "\n");
    }
  }
  return text.empty() ? text : "# item\tname\treason\n" + text;
}

void publish_unless_same(FileSystem& files, const std::string& folder, const std::string& path,
                         const std::string& bytes) {
  const auto same = [&] {
    FileInfo info;
    return files.info(path, &info) && info.size == bytes.size() &&
           read_file(files, path, bytes.size()) == bytes;
  };
  if (same()) return;
  try {
    files.make_folders(building_folder(folder));
    publish_in_store(files, folder, 0, path, bytes);
  } catch (const Error&) {
    if (!same()) throw;  // another rank finished first and removed the building folder
  }
}

// Ranks that finish at the same time may fail here, which is no error.
void remove_building_folder(FileSystem& files, const std::string& folder) {
  for (int attempt = 1;; ++attempt) {
    try {
      return files.remove_tree(building_folder(folder));
    } catch (const Error&) {
      if (attempt == 10) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(attempt));
    }
  }
}

// The shards of this rank that are still to be made.
std::vector<uint64_t> pending_shards(const BuildRequest& request, FileSystem& files,
                                     const StoreIndex& plan, BuildTally& progress) {
  const Layout layout(plan);
  const StorePart& part = plan.parts(0);
  const auto rank = static_cast<uint64_t>(request.rank), size = static_cast<uint64_t>(request.size);
  const uint64_t own = part.shards() > rank ? (part.shards() - rank - 1) / size + 1 : 0;
  std::vector<uint64_t> pending;
  std::mutex mutex;
  run_parallel(own, request.threads, [&](uint64_t i) {
    const uint64_t shard = rank + i * size;
    if (shard_is_finished(files, request.folder, plan, layout, shard, nullptr)) {
      const uint64_t first = shard * part.items_per_shard();
      progress.keep(std::min(part.items_per_shard(), part.items() - first));
    } else {
      const std::lock_guard<std::mutex> lock(mutex);
      pending.push_back(shard);
    }
  });
  std::sort(pending.begin(), pending.end());
  return pending;
}

}  // namespace

StoreIndex open_store_folder(FileSystem& files, const std::string& folder, int rank,
                             const StoreIndex& ours) {
  const bool was_there = files.exists(folder);
  files.make_folders(folder);
  if (!was_there) files.sync_folder(parent_folder(folder));
  std::optional<StoreIndex> plan = begun_build(files, folder, ours);
  files.make_folders(building_folder(folder));
  files.make_folders(shards_folder(folder));
  if (!lies_under(folder, shards_folder(folder)) || !lies_under(folder, building_folder(folder))) {
    fail(Code::kData, "the store ", printable(folder), ": a folder in it leads out of it");
  }
  if (!plan) {
    publish_in_store(files, folder, rank, plan_path(folder), encode_index(ours));
    plan = plan_there(files, folder, ours);  // another build may have been as quick
  }
  remove_leftovers(files, folder, rank);
  return plan.value_or(ours);
}

void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, std::string_view bytes) {
  publish_in_store(files, folder, rank, path,
                   [&](OutFile& out) { out.write(bytes.data(), bytes.size()); });
}

void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, const std::function<void(OutFile&)>& write) {
  static std::atomic<uint64_t> counter = 0;
  publish_file(files, path,
               str(building_folder(folder), "/", prefix_of_rank(rank), host_name(), "-", ::getpid(),
                   "-", counter++),
               write);
}

std::string make_shard(const StoreIndex& plan, const Source& source, uint64_t number, bool strict,
                       std::atomic<uint64_t>& done) {
  const Layout layout(plan);
  const StorePart& part = plan.parts(0);
  const Recipe recipe(plan.recipe(), source.shape());
  ShardWriter writer(plan, layout, number);
  const uint64_t first = number * part.items_per_shard();
  const uint64_t end = std::min(first + part.items_per_shard(), part.items());
  const size_t expected = source.shape().bytes();
  for (uint64_t item = first; item < end; ++item, ++done) {
    if (const StopReason reason = stop_requested(); reason != StopReason::kNone) {
      fail(Code::kInterrupted, "stopped by ", name_of(reason),
           "; finished shards are kept; run the same command again to resume");
    }
    try {
      const Sample sample = source.load(item);
      if (sample.pixels.size() != expected) {
        fail(Code::kData, "it has ", sample.pixels.size(), " bytes, expected ", expected);
      }
      const uint8_t* pixels = sample.pixels.data();
      writer.add(item, sample, pixels + (expected - recipe.clean_bytes()),
                 [&](uint32_t draw, void* corrupted) {
                   recipe.apply(pixels, {part.seed(), item, draw}, corrupted);
                 });
    } catch (const Error& error) {
      if (error.code() != Code::kData) throw;
      const std::string name = source.name_of(item);
      if (strict) {
        fail(Code::kData, "item ", item, " of the source, ", printable(name), ": ", error.what(),
             "; without store.strict it would be skipped");
      }
      writer.quarantine(item, name, error.what());
    }
  }
  return writer.finish();
}

bool shard_is_finished(FileSystem& files, const std::string& folder, const StoreIndex& plan,
                       const Layout& layout, uint64_t shard, ShardTrailer* trailer) {
  const std::string path = shard_path(folder, shard);
  try {
    if (!files.exists(path)) return false;
    const std::unique_ptr<InFile> file = files.open_read(path);
    uint64_t hdf5_bytes = 0;
    ShardTrailer found = read_trailer(*file, path, &hdf5_bytes);
    const PartOfShard place = part_of_shard(plan, shard);
    if (found.store_id() != place.part->store_id() || found.shard() != place.number) return false;
    check_record(layout, found.record(), path);
    if (metadata_checksum(*file, layout, found.record(), hdf5_bytes) !=
        found.record().metadata_crc()) {
      return false;
    }
    if (trailer != nullptr) *trailer = std::move(found);
    return true;
  } catch (const Error& error) {
    LF_WARN("shard ", shard_name(shard), " is rebuilt: ", error.what());
    return false;
  }
}

bool finish_build(FileSystem& files, const std::string& folder, int threads) {
  StoreIndex index = read_index(files, plan_path(folder));
  const Layout layout(index);
  uint64_t shards = 0;
  for (const StorePart& part : index.parts()) shards += part.shards();
  // The cheap check first: most ranks are not the last.
  for (uint64_t s = shards; s-- > 0;) {
    if (!files.exists(shard_path(folder, s))) return false;
  }
  std::vector<ShardTrailer> trailers(shards);
  std::atomic<bool> complete = true;
  run_parallel(shards, threads, [&](uint64_t s) {
    if (complete && !shard_is_finished(files, folder, index, layout, s, &trailers[s])) {
      complete = false;
    }
  });
  if (!complete) return false;
  uint64_t clips = 0;
  for (const ShardTrailer& trailer : trailers) {
    *index.add_shards() = trailer.record();
    clips += trailer.record().clips();
  }
  const std::string quarantine = quarantine_text(trailers);
  if (clips == 0) {
    fail(Code::kData, "no item of the source can be used; the first reasons:\n",
         quarantine.substr(0, 1000));
  }
  if (!quarantine.empty()) {
    publish_unless_same(files, folder, quarantine_path(folder), quarantine);
  }
  publish_unless_same(files, folder, index_path(folder), encode_index(index));
  remove_building_folder(files, folder);
  return true;
}

BuildResult build_store(const BuildRequest& request) {
  LF_CHECK(request.rank >= 0 && request.rank < request.size);
  FileSystem& files = request.files != nullptr ? *request.files : real_file_system();
  const StoreIndex plan = open_store_folder(files, request.folder, request.rank,
                                            plan_store(request.config, *request.source));
  BuildResult result;
  BuildTally progress(building_folder(request.folder), request.rank, request.size,
                      plan.parts(0).items(), request.on_progress);
  const std::vector<uint64_t> pending = pending_shards(request, files, plan, progress);
  const uint64_t rank = static_cast<uint64_t>(request.rank);
  const uint64_t size = static_cast<uint64_t>(request.size), shards = plan.parts(0).shards();
  const uint64_t own = shards > rank ? (shards - rank - 1) / size + 1 : 0;
  result.kept = own - pending.size();
  const bool strict = request.config.store().strict();
  try {
    run_parallel(pending.size(), request.threads, [&](uint64_t i) {
      const uint64_t shard = pending[i];
      const std::string bytes = make_shard(plan, *request.source, shard, strict, progress.items());
      publish_in_store(files, request.folder, request.rank, shard_path(request.folder, shard),
                       bytes);
    });
  } catch (const Error& error) {
    // A STOP file is the user's request, not a reason to restart.
    if (error.code() != Code::kInterrupted || stop_requested() != StopReason::kStopFile) throw;
    result.stopped = true;
    return result;
  }
  result.built = pending.size();
  progress.finish();
  result.complete = finish_build(files, request.folder, request.threads);
  if (result.complete && strict && files.exists(quarantine_path(request.folder))) {
    fail(Code::kData,
         "the store skips unusable items, and store.strict is set; they are listed in ",
         printable(quarantine_path(request.folder)));
  }
  return result;
}

}  // namespace lf
