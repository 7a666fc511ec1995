// What the checkpoint tests share: a small state whose values follow from the position, saved as a
// coordinator would save it, and comparison of everything that is loaded with what must be there.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/retention.h"
#include "checkpoint/run_claim.h"
#include "tests/error_of.h"

namespace lf {

// Where this process's tests write, removed at its end: in memory if possible, because the fault
// tests sync tens of thousands of times.
class Workplace {
 public:
  Workplace()
      : path_(str(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir(),
                  "/lastframe-engine-", ::getpid())) {}
  ~Workplace() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A fresh folder for the running test.
inline std::string fresh_folder(const std::string& name = "run") {
  static const Workplace workplace;
  const std::string folder = workplace.path() + "/" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// Values that differ between positions, kinds and tensors, exact in every type used.
inline std::vector<TensorGroup> state_at(int64_t images) {
  const auto values = [&](int64_t count, int64_t salt, at::ScalarType type) {
    return at::arange(count, at::kDouble)
        .mul(3)
        .add(static_cast<double>(images % 97 + salt))
        .to(type);
  };
  return {{"model",
           {{"encoder.weight", values(24, 1, at::kFloat).view({4, 3, 2})},
            {"encoder.bias", values(4, 2, at::kFloat)},
            {"norm.count", at::full({}, static_cast<double>(images), at::kLong)},
            {"decoder.weight", values(35, 3, at::kBFloat16).view({5, 7}).t()},
            {"mask", values(6, 0, at::kLong).remainder(2).to(at::kBool)}}},
          {"ema",
           {{"encoder.weight", values(24, 5, at::kFloat).view({4, 3, 2})},
            {"encoder.bias", values(4, 6, at::kFloat)}}},
          {"optimizer",
           {{"encoder.weight/exp_avg", values(24, 7, at::kFloat).view({4, 3, 2})},
            {"encoder.bias/exp_avg", values(4, 8, at::kFloat)},
            {"generator/steps", at::full({}, static_cast<double>(images), at::kFloat)}}}};
}

inline std::string save(FileSystem& files, const std::string& run, int64_t images, const Life& life,
                        int writers = 1) {
  const std::vector<TensorGroup> groups = state_at(images);
  const std::vector<Shard> shards = plan_shards(groups, writers, 1);
  const std::string hidden = begin_checkpoint(files, run, images, life);
  CheckpointManifest manifest;
  manifest.set_images(images);
  manifest.set_world_size(writers);
  manifest.set_config("train { batch: 4 }\n");
  manifest.set_config_fingerprint(0x1234567890abcdefULL);
  manifest.set_store_id("store-1");
  manifest.set_code_version("0.1.0");
  set_number(manifest, "skipped_steps", 3);
  set_number(manifest, "validation_loss", 1.0 / 3 + static_cast<double>(images % 7));
  for (int writer = 0; writer < writers; ++writer) {
    for (CheckpointFile& record : write_shards(files, hidden, shards, writer, groups)) {
      *manifest.add_file() = std::move(record);
    }
  }
  return commit_checkpoint(files, run, hidden, std::move(manifest), life);
}

// Loads everything in `folder` strictly and compares it with state_at(images).
inline void expect_state(const std::string& folder, int64_t images) {
  const Checkpoint checkpoint = Checkpoint::open(real_file_system(), folder);
  EXPECT_EQ(checkpoint.manifest().images(), images);
  const std::vector<TensorGroup> expected = state_at(images);
  EXPECT_EQ(checkpoint.kinds().size(), expected.size());
  for (const TensorGroup& group : expected) {
    std::vector<NamedTensor> loaded;
    for (const NamedTensor& named : group.tensors) {
      loaded.push_back({named.name, at::empty_like(named.tensor)});
    }
    checkpoint.load_into(group.kind, loaded);
    for (size_t i = 0; i < loaded.size(); ++i) {
      EXPECT_TRUE(at::equal(loaded[i].tensor, group.tensors[i].tensor)) << loaded[i].name;
      EXPECT_TRUE(at::equal(checkpoint.load(group.kind, loaded[i].name), group.tensors[i].tensor));
    }
  }
}

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

}  // namespace lf
