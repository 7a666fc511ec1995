// Joins stores of one recipe and shape into a new one: their shards are copied as they are, one
// store after the other, and the new index says which part each came from, so clips keep their
// corruptions and each shard can still be repaired from its own source. Called by
// launch/store_commands.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "record.pb.h"

namespace lf {

// The plan of the joined store. Code::kUsage naming what differs if they cannot be joined.
StoreIndex plan_merge(const std::vector<std::string>& folders,
                      const std::vector<StoreIndex>& stores);

// Can be run again after a kill. Returns the number of shards.
uint64_t merge_stores(FileSystem& files, const std::string& out,
                      const std::vector<std::string>& folders, int threads);

}  // namespace lf
