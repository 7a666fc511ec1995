// Merges stores of one recipe and shape into a new one. Shards are copied unchanged, store after
// store, and the new index records which part each came from: clips keep their corruptions, and
// each shard can still be repaired from its own source.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "record.pb.h"

namespace lf {

// The plan of the merged store. Throws Code::kUsage naming the difference if they cannot be merged.
StoreIndex plan_merge(const std::vector<std::string>& folders,
                      const std::vector<StoreIndex>& stores);

// Writes the merged store to `out`; the same call resumes after a kill. Returns the number of
// shards.
uint64_t merge_stores(FileSystem& files, const std::string& out,
                      const std::vector<std::string>& folders, int threads);

}  // namespace lf
