#include "data/build.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "config/config.h"
#include "data/build_tally.h"
#include "data/shard.h"

namespace lf {
namespace {

constexpr uint64_t kMostClipsInShard = uint64_t{1} << 24;

std::string fnv1a(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

StoreColumn::Kind kind_of(SideColumn::Kind kind) {
  switch (kind) {
    case SideColumn::Kind::kInt64:
      return StoreColumn::INT64;
    case SideColumn::Kind::kFloat:
      return StoreColumn::FLOAT;
    case SideColumn::Kind::kText:
      return StoreColumn::TEXT;
  }
  return StoreColumn::INT64;
}

void plan_columns(const Source& source, StoreIndex& plan) {
  std::vector<std::string> seen;
  for (const SideColumn& side : source.side_columns()) {
    if (!valid_column_name(side.name) ||
        std::find(seen.begin(), seen.end(), side.name) != seen.end()) {
      fail(Code::kUsage, "the source has a side column named '", printable(side.name),
           "'; expected different names of up to 64 letters, digits, '_' and '-'");
    }
    seen.push_back(side.name);
    StoreColumn* column = plan.add_columns();
    column->set_name(side.name);
    column->set_kind(kind_of(side.kind));
    column->set_width(side.kind == SideColumn::Kind::kText ? 1 : static_cast<uint32_t>(side.width));
  }
}

// Items in a shard: what was asked for, or as many clips as fill the size asked for.
uint64_t items_per_shard(const StoreConfig& config, const StoreIndex& plan, uint64_t items) {
  if (config.clips_per_shard() > 0) return static_cast<uint64_t>(config.clips_per_shard());
  const Layout layout(plan);
  uint64_t clip = 0;
  for (const Dataset& dataset : layout.datasets()) {
    if (dataset.text < 0) clip += dataset.row_bytes();
  }
  const double fitting = config.shard_mib() * 1048576.0 / static_cast<double>(clip);
  return std::clamp<uint64_t>(static_cast<uint64_t>(fitting), 1,
                              std::min(items, kMostClipsInShard));
}

// What a build wants, as a config: for comparing two plans in the user's own words.
Config config_of(const StoreIndex& plan) {
  const StorePart& part = plan.parts(0);
  Config config;
  *config.mutable_source() = part.source();
  *config.mutable_recipe() = plan.recipe();
  config.mutable_store()->set_mode(plan.mode());
  config.mutable_store()->set_fresh_draws(plan.draws() == 0);
  config.mutable_store()->set_clips_per_shard(static_cast<int32_t>(part.items_per_shard()));
  return config;
}

std::string shape_of(const StoreIndex& plan) {
  return str(plan.frames(), "x", plan.height(), "x", plan.width(), "x", plan.channels());
}

[[noreturn]] void refuse_other_store(const std::string& folder, const StoreIndex& there,
                                     const StoreIndex& ours) {
  std::vector<std::string> lines;
  if (there.parts_size() != 1 || ours.parts_size() != 1) {
    lines.push_back(str("parts: ", there.parts_size(), " -> ", ours.parts_size()));
  } else {
    lines = config_differences(config_of(there), config_of(ours), true);
    const uint64_t items = there.parts(0).items(), now = ours.parts(0).items();
    if (items != now) lines.push_back(str("items of the source: ", items, " -> ", now));
    if (shape_of(there) != shape_of(ours)) {
      lines.push_back(str("shape of a clip: ", shape_of(there), " -> ", shape_of(ours)));
    }
    if (there.recipe_text() != ours.recipe_text()) {
      lines.push_back(str("recipe: ", there.recipe_text(), " -> ", ours.recipe_text()));
    }
    if (lines.empty()) lines.emplace_back("the source's label names or side columns");
  }
  fail(Code::kUsage, printable(folder), " holds another store (", there.store_id(),
       "); build into another folder, or remove it. It differs in: ", join(lines, "; "));
}

// True if a plan or an index is there, and it is ours.
bool same_store_there(FileSystem& files, const std::string& folder, const StoreIndex& plan) {
  bool there = false;
  for (const std::string& path : {plan_path(folder), index_path(folder)}) {
    if (!files.exists(path)) continue;
    StoreIndex old = read_index(files, path);
    old.clear_shards();
    if (old.SerializeAsString() != plan.SerializeAsString()) refuse_other_store(folder, old, plan);
    there = there || path == plan_path(folder);
  }
  return there;
}

// The first thing in the folder that no build of ours has put there; empty: none.
std::string foreign_name(FileSystem& files, const std::string& folder) {
  for (const std::string& name : files.list(folder)) {
    const bool ours =
        name == "building" || (name == "shards" && files.list(shards_folder(folder)).empty());
    if (!ours && name != "index") return name;
  }
  return {};
}

// True if a build of this plan has begun here; Code::kUsage if the folder is in other use. A rank
// that is quicker may publish the plan and its first shards while we look, so what seems foreign is
// judged only after a second look for the plan.
bool build_has_begun(FileSystem& files, const std::string& folder, const StoreIndex& plan) {
  if (same_store_there(files, folder, plan)) return true;
  const std::string foreign = foreign_name(files, folder);
  if (foreign.empty()) return false;
  if (same_store_there(files, folder, plan)) return true;
  fail(Code::kUsage, printable(folder), " holds '", printable(foreign),
       "' and no store of this program; choose a new or empty folder");
}

std::string prefix_of_rank(int rank) { return str("r", rank, "-"); }

// What a killed process of this rank left behind.
void remove_leftovers(FileSystem& files, const std::string& folder, int rank) {
  if (!files.exists(building_folder(folder))) return;  // another rank has just finished
  for (const std::string& name : files.list(building_folder(folder))) {
    if (name.starts_with(prefix_of_rank(rank))) files.remove(building_folder(folder) + "/" + name);
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
    if (!same()) throw;  // another rank finished first and tidied up
  }
}

// Ranks that finish at once get in each other's way here, which is no error.
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

void run_parallel(uint64_t count, int threads, const std::function<void(uint64_t)>& body) {
  std::atomic<uint64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  std::mutex mutex;
  const auto work = [&] {
    for (uint64_t i = next++; i < count && !failed; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> workers;
  const auto wanted = std::min<uint64_t>(count, static_cast<uint64_t>(std::max(1, threads)));
  for (uint64_t t = 1; t < wanted; ++t) workers.emplace_back(work);
  work();
  workers.clear();
  if (error) std::rethrow_exception(error);
}

void open_store_folder(FileSystem& files, const std::string& folder, int rank,
                       const StoreIndex& plan) {
  const bool was_there = files.exists(folder);
  files.make_folders(folder);
  if (!was_there) files.sync_folder(parent_folder(folder));
  const bool planned = build_has_begun(files, folder, plan);
  files.make_folders(building_folder(folder));
  files.make_folders(shards_folder(folder));
  if (!lies_under(folder, shards_folder(folder)) || !lies_under(folder, building_folder(folder))) {
    fail(Code::kData, "the store ", printable(folder), ": a folder in it leads out of it");
  }
  if (!planned) {
    publish_in_store(files, folder, rank, plan_path(folder), encode_index(plan));
    same_store_there(files, folder, plan);  // another build may have been as quick
  }
  remove_leftovers(files, folder, rank);
}

std::string store_id_of(const StoreIndex& plan) {
  StoreIndex nameless = plan;
  nameless.clear_store_id();
  return fnv1a(nameless.SerializeAsString());
}

StoreIndex plan_store(const Config& config, const Source& source) {
  const FrameShape shape = source.shape();
  const Recipe recipe(config.recipe(), shape);
  const StoreConfig& store = config.store();
  if (store.fresh_draws() && store.mode() == STORED) {
    fail(Code::kUsage,
         "store.fresh_draws needs store.mode=RECOMPUTED; a stored clip holds a fixed "
         "number of draws");
  }
  if (store.draws() > 1 && !recipe.random()) {
    fail(Code::kUsage, "store.draws is ", store.draws(),
         ", but this recipe has no randomness, so all "
         "draws would be equal; use store.draws=1");
  }
  if (store.fresh_draws() && !recipe.random()) {
    fail(Code::kUsage,
         "store.fresh_draws: this recipe has no randomness, so all draws would be "
         "equal");
  }
  if (store.mode() == RECOMPUTED && shape.frames > 1) {
    fail(Code::kUsage,
         "store.mode=RECOMPUTED makes frames from images, and this source gives videos "
         "of ",
         shape.frames, " frames; use store.mode=STORED");
  }
  if (source.size() == 0) {
    fail(Code::kUsage, "the source holds no item; check its path and its split");
  }
  StoreIndex plan;
  plan.set_format(kStoreFormat);
  plan.set_mode(store.mode());
  plan.set_frames(static_cast<uint32_t>(recipe.frames()));
  plan.set_height(static_cast<uint32_t>(shape.height));
  plan.set_width(static_cast<uint32_t>(shape.width));
  plan.set_channels(static_cast<uint32_t>(shape.channels));
  plan.set_element_bytes(recipe.element() == Element::kUint8 ? 1 : 2);
  plan.set_draws(store.fresh_draws() ? 0 : static_cast<uint32_t>(store.draws()));
  plan.set_from_videos(shape.frames > 1);
  *plan.mutable_recipe() = config.recipe();
  plan.set_recipe_text(recipe.canonical());
  for (const std::string& name : source.label_names()) plan.add_label_names(printable(name));
  plan_columns(source, plan);
  StorePart* part = plan.add_parts();
  *part->mutable_source() = config.source();
  part->set_seed(store.seed());
  *part->mutable_recipe() = config.recipe();
  part->set_recipe_text(recipe.canonical());
  part->set_items(source.size());
  part->set_items_per_shard(items_per_shard(store, plan, source.size()));
  part->set_shards((part->items() - 1) / part->items_per_shard() + 1);
  plan.set_store_id(store_id_of(plan));
  part->set_store_id(plan.store_id());
  try {
    check_plan(plan, "the plan");
  } catch (const Error& error) {
    fail(Code::kUsage, "a store of this source and recipe cannot be built: ", error.what());
  }
  return plan;
}

StoreIndex plan_of_part(const StoreIndex& index, const StorePart& part) {
  StoreIndex plan = index;
  plan.clear_shards();
  plan.clear_parts();
  *plan.add_parts() = part;
  *plan.mutable_recipe() = part.recipe();
  plan.set_recipe_text(part.recipe_text());
  plan.set_store_id(part.store_id());
  return plan;
}

void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, std::string_view bytes) {
  publish_in_store(files, folder, rank, path,
                   [&](OutFile& out) { out.write(bytes.data(), bytes.size()); });
}

void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, const std::function<void(OutFile&)>& write) {
  static std::atomic<uint64_t> counter = 0;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  const std::string tmp = str(building_folder(folder), "/", prefix_of_rank(rank), host, "-",
                              ::getpid(), "-", counter++);
  try {
    const std::unique_ptr<OutFile> out = files.create(tmp);
    write(*out);
    out->sync();
    out->close();
    files.rename(tmp, path);
  } catch (const Error&) {
    try {
      files.remove(tmp);      // a full disk is the likely reason: do not make it worse
    } catch (const Error&) {  // the first error is the one to report
    }
    throw;
  }
  files.sync_folder(parent_folder(path));
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
           "; finished shards are kept, run the "
           "same command again to go on");
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
             "; without store.strict it would be left out");
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
    LF_WARN("shard ", shard_name(shard), " is made again: ", error.what());
    return false;
  }
}

bool finish_build(FileSystem& files, const std::string& folder, int threads) {
  StoreIndex index = read_index(files, plan_path(folder));
  const Layout layout(index);
  uint64_t shards = 0;
  for (const StorePart& part : index.parts()) shards += part.shards();
  // Cheap first: most ranks are not the last, and see it here.
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
  const StoreIndex plan = plan_store(request.config, *request.source);
  open_store_folder(files, request.folder, request.rank, plan);

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
    // A STOP file is a wish of the user, not a reason to start again.
    if (error.code() != Code::kInterrupted || stop_requested() != StopReason::kStopFile) throw;
    result.stopped = true;
    return result;
  }
  result.built = pending.size();
  progress.finish();
  result.complete = finish_build(files, request.folder, request.threads);
  if (result.complete && strict && files.exists(quarantine_path(request.folder))) {
    fail(Code::kData,
         "the store leaves out items that could not be used, and store.strict is set; "
         "they are in ",
         printable(quarantine_path(request.folder)));
  }
  return result;
}

}  // namespace lf
