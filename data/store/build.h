// Makes a store from a source. Rank r of n makes the shards s with s mod n = r; one thread makes a
// shard from items [s k, (s + 1) k) and publishes it by rename. A shard holds the usable items and
// lists the others, and clips are numbered consecutively, so bytes and clip numbers depend neither
// on ranks nor on threads nor on how often the build was killed. No process waits for another:
// whichever finishes last writes the index. Knows no MPI; rank and size are two integers.
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
  uint64_t items = 0;  // done: usable, unusable, or in shards kept from an earlier attempt
  uint64_t kept = 0;   // of them, in shards kept from an earlier attempt
  uint64_t total = 0;  // in the source
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
  bool complete = false;  // the index is written; false: other ranks are still building, or stopped
  bool stopped = false;   // by a STOP file
  uint64_t built = 0, kept = 0;  // shards of this rank
};

// Builds this rank's shards; the same call resumes an interrupted build. Throws Code::kUsage if the
// folder holds another store or other files, Code::kStorage if it cannot be written,
// Code::kInterrupted on a signal or at the deadline.
BuildResult build_store(const BuildRequest& request);

// The index, without shard records, that a build would write; checks the config against the source.
StoreIndex plan_store(const Config& config, const Source& source);

// Writes the index if every shard exists; returns whether the store is complete. build_store() does
// this itself; a launcher may call it again once all ranks are done.
bool finish_build(FileSystem& files, const std::string& folder, int threads);

// The bytes of shard `number` of the plan. `done` counts items. Throws Code::kInterrupted when
// asked to stop and, if `strict`, Code::kData for the first unusable item.
std::string make_shard(const StoreIndex& plan, const Source& source, uint64_t number, bool strict,
                       std::atomic<uint64_t>& done);

// Returns whether the file is shard `shard` of the plan, whole and valid; pixels are not checked.
// If so, fills in `trailer` unless it is null.
bool shard_is_finished(FileSystem& files, const std::string& folder, const StoreIndex& plan,
                       const Layout& layout, uint64_t shard, ShardTrailer* trailer);

// Makes the folder of the store that `plan` describes, and removes the temporary files of a killed
// process of this rank. Returns the plan to go by: that of the build of the same store that has
// begun there, whose options may be in other words and whose id an older program gave. Throws
// Code::kUsage, naming the differences, if the folder holds another store.
StoreIndex open_store_folder(FileSystem& files, const std::string& folder, int rank,
                             const StoreIndex& plan);

// Publishes `path` by rename. The temporary name, in the store's building folder, is unique over
// all processes on all machines.
void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, std::string_view bytes);
void publish_in_store(FileSystem& files, const std::string& folder, int rank,
                      const std::string& path, const std::function<void(OutFile&)>& write);

// The plan that the build of part `part` of a store had.
StoreIndex plan_of_part(const StoreIndex& index, const StorePart& part);

}  // namespace lf
