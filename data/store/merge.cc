#include "data/store/merge.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "data/store/build.h"
#include "data/store/identity.h"
#include "data/store/layout.h"
#include "data/store/shard.h"

namespace lf {
namespace {

// The fields that stores to be merged must agree in.
std::vector<std::pair<std::string, std::string>> identity_of(const StoreIndex& index) {
  std::string columns;
  for (const StoreColumn& column : index.columns()) {
    columns +=
        str(column.name(), ":", StoreColumn::Kind_Name(column.kind()), "[", column.width(), "] ");
  }
  std::vector<std::string> labels(index.label_names().begin(), index.label_names().end());
  return {{"mode", StoreMode_Name(index.mode())},
          {"draws", str(index.draws())},
          {"frames", str(index.frames())},
          {"shape", str(index.height(), "x", index.width(), "x", index.channels())},
          {"element bytes", str(index.element_bytes())},
          {"recipe", index.recipe_text()},
          {"source of videos", index.from_videos() ? "yes" : "no"},
          {"label names", join(labels, ", ")},
          {"side columns", columns}};
}

void copy_shard(FileSystem& files, const std::string& from, const std::string& out,
                const std::string& to) {
  const std::unique_ptr<InFile> in = files.open_read(from);
  publish_in_store(files, out, 0, to, [&](OutFile& file) {
    std::string chunk;
    for (uint64_t at = 0; at < in->size(); at += chunk.size()) {
      chunk.resize(std::min<uint64_t>(in->size() - at, 4 << 20));
      in->read(at, chunk.data(), chunk.size());
      file.write(chunk.data(), chunk.size());
    }
  });
}

}  // namespace

StoreIndex plan_merge(const std::vector<std::string>& folders,
                      const std::vector<StoreIndex>& stores) {
  LF_CHECK(folders.size() == stores.size() && !stores.empty());
  StoreIndex plan = stores.front();
  plan.clear_shards();
  plan.clear_parts();
  std::set<std::string> seen;
  for (size_t i = 0; i < stores.size(); ++i) {
    const auto first = identity_of(stores.front()), other = identity_of(stores[i]);
    for (size_t f = 0; f < first.size(); ++f) {
      if (first[f] != other[f]) {
        fail(Code::kUsage, "the stores ", printable(folders.front()), " and ",
             printable(folders[i]), " cannot be merged: ", first[f].first, " is '",
             printable(first[f].second), "' in one and '", printable(other[f].second),
             "' in the other");
      }
    }
    for (const StorePart& part : stores[i].parts()) {
      if (!seen.insert(part.store_id()).second) {
        fail(Code::kUsage, "the store ", part.store_id(), " (in ", printable(folders[i]),
             ") is given twice; its clips would count double");
      }
      *plan.add_parts() = part;
    }
  }
  plan.set_store_id(store_id_of(plan));
  check_plan(plan, "the merged store");
  return plan;
}

uint64_t merge_stores(FileSystem& files, const std::string& out,
                      const std::vector<std::string>& folders, int threads) {
  std::vector<StoreIndex> stores;
  std::vector<std::pair<std::string, const ShardRecord*>> from;  // of each shard of the new store
  stores.reserve(folders.size());
  for (const std::string& folder : folders) {
    if (!files.exists(index_path(folder))) {
      fail(Code::kUsage, "there is no finished store at ", printable(folder));
    }
    stores.push_back(read_index(files, index_path(folder)));
    for (int s = 0; s < stores.back().shards_size(); ++s) {
      from.emplace_back(shard_path(folder, static_cast<uint64_t>(s)), &stores.back().shards(s));
    }
  }
  const StoreIndex plan = open_store_folder(files, out, 0, plan_merge(folders, stores));
  const Layout layout(plan);
  run_parallel(from.size(), threads, [&](uint64_t shard) {
    if (stop_requested() != StopReason::kNone) {
      fail(Code::kInterrupted, "stopped; shards copied are kept, run the same command again");
    }
    ShardTrailer trailer;
    if (shard_is_finished(files, out, plan, layout, shard, nullptr)) return;
    copy_shard(files, from[shard].first, out, shard_path(out, shard));
    if (!shard_is_finished(files, out, plan, layout, shard, &trailer) ||
        trailer.record().SerializeAsString() != from[shard].second->SerializeAsString()) {
      fail(Code::kData, printable(from[shard].first),
           " is damaged; run `lastframe verify` on its store");
    }
  });
  LF_CHECK(finish_build(files, out, threads));
  return from.size();
}

}  // namespace lf
