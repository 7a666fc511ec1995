// Checks every byte of a store against its index, and makes damaged shards again from the source:
// a shard's bytes are a function of the plan and the source, so a repaired store is the one that
// was built. Called by launch/store_commands.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/sources/source.h"
#include "record.pb.h"

namespace lf {

struct Damage {
  enum class Kind { kIndex, kPlan, kShard, kExtraFile } kind = Kind::kShard;
  uint64_t shard = 0;  // of kShard
  std::string name;    // "shard 00017.h5", "index", ...
  std::string reason;  // what was found and what was expected
};

struct VerifyReport {
  uint64_t shards = 0, clips = 0, bytes = 0;  // looked at
  std::vector<Damage> damage;                 // by name
};

// `done` gets the number of shards checked so far, from many threads.
VerifyReport verify_store(FileSystem& files, const std::string& folder, int threads,
                          const std::function<void(uint64_t done, uint64_t of)>& done = {});

// What is wrong with one shard; empty if nothing is.
std::vector<std::string> verify_shard(FileSystem& files, const std::string& folder,
                                      const StoreIndex& index, uint64_t shard);

using OpenSource = std::function<std::unique_ptr<Source>(const SourceConfig&)>;

// Mends all that the report names: shards are made again, the index from the shards, the plan from
// the index; files that belong to no store are moved to STORE/extra. Code::kData if the source no
// longer gives the bytes that were stored. Returns what it did, a line each.
std::vector<std::string> repair_store(FileSystem& files, const std::string& folder, int threads,
                                      const VerifyReport& report, const OpenSource& open);

}  // namespace lf
