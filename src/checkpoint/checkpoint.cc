#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace lf {
namespace {

struct Load {
  uint64_t bytes = 0;
  int writer = 0;
  bool operator<(const Load& other) const {
    return std::pair(bytes, writer) < std::pair(other.bytes, other.writer);
  }
};

struct Item {
  std::string name;
  uint64_t bytes;
};

// Largest first; names decide between equals.
std::vector<Item> items_of(const TensorGroup& group) {
  std::vector<Item> items;
  for (const NamedTensor& named : group.tensors) {
    items.push_back({named.name, layout_of(named).bytes()});
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.name < b.name;
  });
  return items;
}

uint64_t sum_of(const std::vector<Item>& items) {
  uint64_t bytes = 0;
  for (const Item& item : items) bytes += item.bytes;
  return bytes;
}

// Deals one kind over the writers with the least load; adds to the loads.
std::vector<Shard> deal(const std::string& kind, const std::vector<Item>& items,
                        std::vector<uint64_t>& loads, uint64_t min_shard_bytes) {
  const uint64_t most = sum_of(items) / std::max<uint64_t>(min_shard_bytes, 1);
  const auto writers = static_cast<size_t>(
      std::clamp<uint64_t>(std::min<uint64_t>(most, items.size()), 1, loads.size()));
  std::vector<Load> all;
  for (size_t writer = 0; writer < loads.size(); ++writer) {
    all.push_back({loads[writer], static_cast<int>(writer)});
  }
  std::sort(all.begin(), all.end());
  std::set<Load> open(all.begin(), all.begin() + static_cast<ptrdiff_t>(writers));
  std::map<int, std::vector<std::string>> dealt;
  for (const Load& load : open) dealt[load.writer];
  for (const Item& item : items) {
    Load least = *open.begin();
    open.erase(open.begin());
    dealt[least.writer].push_back(item.name);
    least.bytes += item.bytes;
    loads[static_cast<size_t>(least.writer)] = least.bytes;
    open.insert(least);
  }
  std::erase_if(dealt, [&](const auto& share) { return share.second.empty() && dealt.size() > 1; });
  std::vector<Shard> shards;
  for (auto& [writer, names] : dealt) shards.push_back({kind, "", writer, std::move(names)});
  return shards;
}

void name_files(std::vector<Shard>& shards) {
  for (size_t i = 0; i < shards.size(); ++i) {
    std::array<char, 48> part{};
    if (shards.size() > 1) {
      std::snprintf(part.data(), part.size(), "-%05zu-of-%05zu", i + 1, shards.size());
    }
    shards[i].file = shards[i].kind + part.data() + ".safetensors";
  }
}

const TensorGroup& group_of(const std::vector<TensorGroup>& groups, const std::string& kind) {
  const auto found = std::find_if(groups.begin(), groups.end(),
                                  [&](const TensorGroup& group) { return group.kind == kind; });
  LF_CHECK(found != groups.end(), "no tensors of kind ", kind);
  return *found;
}

}  // namespace

std::vector<Shard> plan_shards(const std::vector<TensorGroup>& groups, int writers,
                               uint64_t min_shard_bytes) {
  LF_CHECK(writers >= 1, "writers: ", writers);
  std::vector<std::pair<std::string, std::vector<Item>>> kinds;
  for (const TensorGroup& group : groups) {
    LF_CHECK(!group.kind.empty() &&
                 group.kind.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string::npos,
             "kind ", group.kind);
    kinds.emplace_back(group.kind, items_of(group));
  }
  // The largest kind first, so that the small ones even out the loads.
  std::stable_sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) {
    return sum_of(a.second) > sum_of(b.second);
  });
  std::vector<uint64_t> loads(static_cast<size_t>(writers), 0);
  std::vector<Shard> plan;
  for (const auto& [kind, items] : kinds) {
    std::vector<Shard> shards = deal(kind, items, loads, min_shard_bytes);
    name_files(shards);
    std::move(shards.begin(), shards.end(), std::back_inserter(plan));
  }
  return plan;
}

std::vector<CheckpointFile> write_shards(FileSystem& files, const std::string& hidden_folder,
                                         const std::vector<Shard>& shards, int writer,
                                         const std::vector<TensorGroup>& groups) {
  std::vector<CheckpointFile> records;
  for (const Shard& shard : shards) {
    if (shard.writer != writer) continue;
    const TensorGroup& group = group_of(groups, shard.kind);
    const std::set<std::string> mine(shard.names.begin(), shard.names.end());
    std::vector<HostTensor> tensors;
    std::vector<at::Tensor> alive;  // copies of those that are not row-major on the host
    for (const NamedTensor& named : group.tensors) {
      if (!mine.contains(named.name)) continue;
      alive.push_back(named.tensor.detach().to(at::kCPU).contiguous());
      tensors.push_back({layout_of(named), alive.back().const_data_ptr(), {}});
    }
    records.push_back(write_tensor_file(files, hidden_folder, shard.file, shard.kind, tensors));
  }
  if (!records.empty()) files.sync_folder(hidden_folder);
  return records;
}

// --- Checkpoint
// -----------------------------------------------------------------------------------

Checkpoint Checkpoint::open(FileSystem& files, const std::string& folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.manifest_ = verify_checkpoint(files, folder, Depth::kQuick);
  for (const CheckpointFile& record : checkpoint.manifest_.file()) {
    if (record.kind().empty()) continue;
    checkpoint.open_.push_back(
        std::make_unique<SafetensorsFile>(files, folder + "/" + record.name()));
    const SafetensorsFile& file = *checkpoint.open_.back();
    auto& names = checkpoint.where_[record.kind()];
    for (const CheckpointTensor& tensor : record.tensor()) {
      const TensorEntry* entry = file.find(tensor.name());
      if (entry == nullptr ||
          !names.emplace(tensor.name(), Place{&file, entry, tensor.crc32c()}).second) {
        fail(Code::kCheckpoint, printable(folder), " lists '", printable(tensor.name()), "' of ",
             printable(record.kind()), " twice; damaged, use an older checkpoint");
      }
    }
  }
  return checkpoint;
}

std::vector<std::string> Checkpoint::kinds() const {
  std::vector<std::string> kinds;
  for (const auto& [kind, ignored] : where_) kinds.push_back(kind);
  return kinds;
}

std::vector<TensorLayout> Checkpoint::layouts(const std::string& kind) const {
  std::vector<TensorLayout> layouts;
  const auto found = where_.find(kind);
  if (found == where_.end()) return layouts;
  for (const auto& [name, place] : found->second) layouts.push_back(place.entry->layout);
  return layouts;
}

void Checkpoint::require_kind(const std::string& kind) const {
  if (has(kind)) return;
  fail(Code::kCheckpoint, printable(folder_), " holds no '", printable(kind), "', only ",
       join(kinds(), ", "), "; use the config it was made with");
}

const Checkpoint::Place& Checkpoint::place(const std::string& kind, const std::string& name) const {
  require_kind(kind);
  const auto group = where_.find(kind);
  const auto found = group->second.find(name);
  if (found == group->second.end()) {
    std::vector<std::string> names;
    for (const auto& [other, ignored] : group->second) names.push_back(other);
    fail(Code::kCheckpoint, printable(folder_), " holds no tensor '", printable(name), "' of ",
         kind, did_you_mean(name, names), "; `lastframe inspect` lists what it holds");
  }
  return found->second;
}

void Checkpoint::compare_crc(const Place& place, uint32_t crc) const {
  if (crc == place.crc32c) return;
  fail(Code::kCheckpoint, printable(place.file->path()), ": the tensor '",
       printable(place.entry->layout.name),
       "' does not have the checksum that the manifest says (a flipped bit?); use an older "
       "checkpoint");
}

at::Tensor Checkpoint::load(const std::string& kind, const std::string& name) const {
  const Place& from = place(kind, name);
  uint32_t crc = 0;
  at::Tensor tensor = read_tensor(*from.file, *from.entry, &crc);
  compare_crc(from, crc);
  return tensor;
}

void Checkpoint::load_into(const std::string& kind, const std::vector<NamedTensor>& tensors) const {
  require_kind(kind);
  std::vector<TensorLayout> asked;
  for (const NamedTensor& named : tensors) asked.push_back(layout_of(named));
  require_same(str(printable(folder_), " (", kind, ")"), asked, layouts(kind));
  for (const NamedTensor& named : tensors) {
    const Place& from = place(kind, named.name);
    compare_crc(from, read_tensor_into(*from.file, *from.entry, named.tensor));
  }
}

TensorMetadata Checkpoint::export_metadata(const std::string& kind) const {
  std::vector<std::string> shape;
  for (const int extent : manifest_.clip_shape()) shape.push_back(std::to_string(extent));
  return {{"format", "pt"},
          {"kind", kind},
          {"config", manifest_.config()},
          {"clip_shape", join(shape, ",")},
          {"images", std::to_string(manifest_.images())},
          {"producer", str("lastframe ", manifest_.code_version())}};
}

LoadableTensors tensors_of(const Checkpoint& checkpoint, const std::string& kind) {
  if (!checkpoint.has(kind)) {
    fail(Code::kUsage, printable(checkpoint.folder()), " holds no '", printable(kind),
         "'; choose one of ", join(checkpoint.kinds(), ", "));
  }
  std::vector<TensorLayout> layouts = checkpoint.layouts(kind);
  std::map<std::string, std::string> kind_of;
  for (const TensorLayout& layout : layouts) kind_of[layout.name] = kind;
  if (kind == "ema") {
    for (const TensorLayout& layout : checkpoint.layouts("model")) {
      if (kind_of.emplace(layout.name, "model").second) layouts.push_back(layout);
    }
  }
  return {layouts, [&checkpoint, kind_of](const std::string& name) {
            return checkpoint.load(kind_of.at(name), name);
          }};
}

ExportedTensors exported_tensors(const Checkpoint& checkpoint, const std::string& kind) {
  const std::string chosen = !kind.empty() ? kind : checkpoint.has("ema") ? "ema" : "model";
  return {tensors_of(checkpoint, chosen), checkpoint.export_metadata(chosen), chosen};
}

}  // namespace lf
