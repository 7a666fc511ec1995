// Makes a store from a source: shard s of n ranks belongs to rank s modulo n, is made by one thread
// from items [s k, (s + 1) k) alone, and is published by rename. An item that cannot be used leaves
// no hole: its shard holds the good ones and lists the bad ones, and clips are counted through, so
// bytes and clip numbers depend neither on ranks nor on threads nor on how often the build was
// killed. No process waits for another: whoever finishes last writes the index. Knows no MPI; rank
// and size are two integers. Called by launch/store_commands and data/store/verify (repair).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/file.h"
#include "data/recipe/recipe.h"
#include "data/sources/source.h"
#include "data/store/layout.h"

namespace lf {

// All ranks together.
struct BuildProgress {
  uint64_t items = 0, total = 0;  // done (good, bad or kept from before), in the source
  double items_per_second = 0;    // since each rank began, shards kept from before not counted
  double seconds_left = -1;       // -1: not known yet
};

struct BuildRequest {
  Config config;  // source, recipe and store
  const Source* source = nullptr;
  std::string folder;
  int rank = 0, size = 1;
  int threads = 1;
  FileSystem* files = nullptr;                            // null: the real one
  std::function<void(const BuildProgress&)> on_progress;  // about once a second, from a thread
};

struct BuildResult {
  bool complete = false;  // the index is written; false: other ranks are still at work, or stopped
  bool stopped = false;   // by a STOP file
  uint64_t built = 0, kept = 0;  // shards of this rank
};

// Code::kUsage if the folder holds another store or something else; Code::kStorage if it cannot be
// written; Code::kInterrupted on a signal or at the deadline. Run again to go on.
BuildResult build_store(const BuildRequest& request);

// The index without records that a build would write; checks the config against the source.
StoreIndex plan_store(const Config& config, const Source& source);

// Writes the index if every shard is there; says whether the store is complete. Building does this
// by itself; a launcher may call it again once all ranks are done.
bool finish_build(FileSystem& files, const std::string& folder, int threads);

// The bytes of shard `number` of the plan. `done` counts items. Throws Code::kInterrupted when
// asked to stop, and Code::kData for the first bad item if `strict`.
std::string make_shard(const StoreIndex& plan, const Source& source, uint64_t number, bool strict,
                       std::atomic<uint64_t>& done);

// Whether the file is the sound and whole shard `number` of the plan but for flipped pixels; if so
// and if asked, its trailer.
bool shard_is_finished(FileSystem& files, const std::string& folder, const StoreIndex& plan,
                       const Layout& layout, uint64_t shard, ShardTrailer* trailer);

// Makes the folder of the store that `plan` describes, or checks that it is the one there already
// (Code::kUsage, naming the differences), and clears away what a killed `rank` left behind.
void open_store_folder(FileSystem& files, const std::string& folder, int rank,
                       const StoreIndex& plan);

// A name for a store: a hash of everything its plan says.
std::string store_id_of(const StoreIndex& plan);

// Writes `bytes` to `path` under a temporary name in the store's building folder that no other
// process, on any machine, uses.
void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, std::string_view bytes);
void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, const std::function<void(OutFile&)>& write);

// The plan of part `part` of a store, as its build had it.
StoreIndex plan_of_part(const StoreIndex& index, const StorePart& part);

// Calls body(0) ... body(count - 1) on some threads; the first exception ends it and is rethrown.
void run_parallel(uint64_t count, int threads, const std::function<void(uint64_t)>& body);

}  // namespace lf
