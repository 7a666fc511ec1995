// Checks every byte of a store against its index, and rebuilds damaged shards from the source. A
// shard's bytes are a function of plan and source, so a repaired store equals the one that was
// built.
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
  uint64_t shards = 0, clips = 0, bytes = 0;  // checked
  std::vector<Damage> damage;                 // by name
};

// `done` gets the number of shards checked so far, from many threads.
VerifyReport verify_store(FileSystem& files, const std::string& folder, int threads,
                          const std::function<void(uint64_t done, uint64_t of)>& done = {});

// The problems of one shard; empty if it is valid.
std::vector<std::string> verify_shard(FileSystem& files, const std::string& folder,
                                      const StoreIndex& index, uint64_t shard);

using OpenSource = std::function<std::unique_ptr<Source>(const SourceConfig&)>;

// Repairs everything the report names: rebuilds shards from the source, the index from the shards,
// the plan from the index, and moves files that are not the store's to STORE/extra. Throws
// Code::kData if the source no longer gives the stored bytes. Returns a line for each repair.
std::vector<std::string> repair_store(FileSystem& files, const std::string& folder, int threads,
                                      const VerifyReport& report, const OpenSource& open);

}  // namespace lf
