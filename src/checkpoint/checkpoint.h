// A checkpoint's tensors: how whole named tensors are dealt to the ranks that write, one rank's
// share of a save, and loading, at any number of ranks. The format: README.md. Knows nothing of
// MPI: rank and count are integers, and the caller gathers the records of all ranks before
// commit_checkpoint() (manifest.h).
//
//   const auto shards = plan_shards(groups, ranks, min_bytes);   // the same on every rank
//   rank 0: hidden = begin_checkpoint(...); send it to all
//   each:   records = write_shards(files, hidden, shards, rank, groups); send them to rank 0
//   rank 0: commit_checkpoint(files, run, hidden, manifest with all records, life)
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/tensors.h"

namespace lf {

// Tensors of one kind: "model", "ema", "optimizer". A kind written by one rank is the file
// KIND.safetensors. Names are unique within a kind; kinds are lower-case letters and '-'.
struct TensorGroup {
  std::string kind;
  std::vector<NamedTensor> tensors;
};

// One file and the rank that writes it.
struct Shard {
  std::string kind;
  std::string file;  // "model.safetensors", "model-00001-of-00004.safetensors"
  int writer = 0;
  std::vector<std::string> names;
};

// Deals whole tensors, the largest first, each to the writer that has least so far. A pure function
// of names and sizes, so every rank computes the same plan. Files of a kind are no more than keep
// each at `min_shard_bytes` or above.
std::vector<Shard> plan_shards(const std::vector<TensorGroup>& groups, int writers,
                               uint64_t min_shard_bytes);

// Writes and syncs the files of `writer` into the hidden folder, straight from the tensors.
std::vector<CheckpointFile> write_shards(FileSystem& files, const std::string& hidden_folder,
                                         const std::vector<Shard>& shards, int writer,
                                         const std::vector<TensorGroup>& groups);

// An open checkpoint. Tensors are read by name with pread, each compared with its checksum as it is
// read; anything wrong is Code::kCheckpoint. After an error a tensor being loaded into may hold
// part of the new bytes.
class Checkpoint {
 public:
  // Manifest, sizes and headers are checked here (Depth::kQuick).
  static Checkpoint open(FileSystem& files, const std::string& folder);

  const CheckpointManifest& manifest() const { return manifest_; }
  const std::string& folder() const { return folder_; }
  std::vector<std::string> kinds() const;
  bool has(const std::string& kind) const { return where_.contains(kind); }
  // In the order of their names.
  std::vector<TensorLayout> layouts(const std::string& kind) const;

  at::Tensor load(const std::string& kind, const std::string& name) const;
  // All tensors of a kind, strictly: each is there with this shape and type, and there are no
  // others.
  void load_into(const std::string& kind, const std::vector<NamedTensor>& tensors) const;

  // What a file made of tensors of this kind says of the model: its config, the shape of its clips
  // ("frames,height,width,channels"), the images it was trained on.
  TensorMetadata export_metadata(const std::string& kind) const;

 private:
  struct Place {
    const SafetensorsFile* file;
    const TensorEntry* entry;
    uint32_t crc32c;
  };
  void require_kind(const std::string& kind) const;
  const Place& place(const std::string& kind, const std::string& name) const;
  void compare_crc(const Place& place, uint32_t crc) const;

  std::string folder_;
  CheckpointManifest manifest_;
  std::vector<std::unique_ptr<SafetensorsFile>> open_;
  std::map<std::string, std::map<std::string, Place>> where_;  // by kind and name
};

// Those of a kind of the checkpoint, which must outlive them. With an average of the weights come
// the model's tensors that have none: what is frozen, and codebooks and other state that no
// gradient updates. Code::kUsage if there is no such kind.
LoadableTensors tensors_of(const Checkpoint& checkpoint, const std::string& kind);

// Tensors for a file of their own.
struct ExportedTensors {
  LoadableTensors tensors;
  TensorMetadata metadata;
  std::string kind;
};

// tensors_of() a kind, "" choosing the average of the weights ("ema") where there is one and the
// weights ("model") otherwise.
ExportedTensors exported_tensors(const Checkpoint& checkpoint, const std::string& kind);

}  // namespace lf
