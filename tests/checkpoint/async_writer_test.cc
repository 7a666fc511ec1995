// Saves in the background against saves in the foreground.
#include "checkpoint/async_writer.h"

#include <ATen/ops/empty_like.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>

#include "base/faulty_file.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace lf {
namespace {

FileSystem& disk() { return real_file_system(); }

// All files of a folder with their bytes.
std::map<std::string, std::string> bytes_of(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const std::string& name : disk().list(folder)) {
    all[name] = read_file(disk(), folder + "/" + name, 1 << 24);
  }
  return all;
}

TEST(AsyncWriter, EqualsASaveInTheForegroundWhileTheTensorsChange) {
  const std::string sync = fresh_folder("sync"), async = fresh_folder("async");
  std::vector<TensorGroup> groups = state_at(12800);
  const std::vector<Shard> shards = plan_shards(groups, 2, 1);
  // Writing waits until the tensors have been changed.
  std::mutex mutex;
  std::condition_variable changed_condition;
  bool changed = false;
  FaultyFileSystem slow([&](const FileOperation&) {
    std::unique_lock<std::mutex> lock(mutex);
    changed_condition.wait(lock, [&] { return changed; });
    return true;
  });
  AsyncWriter writer(slow, true);
  for (const int rank : {0, 1}) {
    const std::vector<CheckpointFile> expected = write_shards(disk(), sync, shards, rank, groups);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      changed = false;
    }
    writer.save(async, shards, rank, groups);
    EXPECT_TRUE(writer.busy());
    for (TensorGroup& group : groups) {
      for (NamedTensor& named : group.tensors) named.tensor.zero_();
    }
    {
      const std::lock_guard<std::mutex> lock(mutex);
      changed = true;
    }
    changed_condition.notify_all();
    const std::vector<CheckpointFile> records = writer.wait();
    ASSERT_EQ(records.size(), expected.size());
    for (size_t i = 0; i < records.size(); ++i) {
      EXPECT_EQ(records[i].SerializeAsString(), expected[i].SerializeAsString());
    }
    groups = state_at(12800);
  }
  EXPECT_EQ(bytes_of(sync), bytes_of(async));
}

TEST(AsyncWriter, TensorsOfAnyStridesAreWrittenRowMajor) {
  const std::string sync = fresh_folder("sync"), async = fresh_folder("async");
  const at::Tensor base = at::arange(2 * 3 * 4 * 5, at::kDouble).view({2, 3, 4, 5});
  std::vector<TensorGroup> groups = {{"model", {}}};
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kByte}) {
    const std::string name = c10::toString(type);
    const at::Tensor tensor = base.to(type);
    groups[0].tensors.push_back({name + ".plain", tensor});
    groups[0].tensors.push_back(
        {name + ".channels_last", tensor.contiguous(at::MemoryFormat::ChannelsLast)});
    groups[0].tensors.push_back({name + ".permuted", tensor.permute({3, 1, 0, 2})});
    groups[0].tensors.push_back({name + ".slice", tensor.slice(3, 1, 5, 2)});
    groups[0].tensors.push_back(
        {name + ".expanded", tensor.select(0, 1).unsqueeze(0).expand({3, -1, -1, -1})});
    groups[0].tensors.push_back(
        {name + ".scalar", tensor.select(0, 1).select(0, 1).select(0, 1).select(0, 1)});
  }
  const std::vector<Shard> shards = plan_shards(groups, 1, 1);
  write_shards(disk(), sync, shards, 0, groups);
  AsyncWriter writer(disk(), true);
  writer.save(async, shards, 0, groups);
  writer.wait();
  EXPECT_EQ(bytes_of(sync), bytes_of(async));
  for (const NamedTensor& named : load_tensor_file(disk(), async + "/model.safetensors")) {
    for (const NamedTensor& original : groups[0].tensors) {
      if (original.name == named.name) {
        EXPECT_TRUE(at::equal(original.tensor, named.tensor)) << named.name;
      }
    }
  }
}

TEST(AsyncWriter, AnErrorSurfacesAtTheNextCallAndTheOneAfterWorks) {
  const std::string folder = fresh_folder();
  std::atomic<bool> full = true;
  FaultyFileSystem files([&](const FileOperation& operation) {
    if (full && operation.kind == "write") throw Error(Code::kStorage, "no space left on device");
    return true;
  });
  const std::vector<TensorGroup> groups = state_at(1);
  const std::vector<Shard> shards = plan_shards(groups, 1, 1);
  AsyncWriter writer(files, true);
  writer.save(folder, shards, 0, groups);
  expect_contains(error_of(Code::kStorage, [&] { writer.save(folder, shards, 0, groups); }),
                  "no space left");
  writer.save(folder, shards, 0, groups);
  error_of(Code::kStorage, [&] { writer.wait(); });
  EXPECT_TRUE(writer.wait().empty());
  full = false;
  writer.save(folder, shards, 0, groups);
  EXPECT_EQ(writer.wait().size(), shards.size());
}

// The disk blocks until it is released: training continues meanwhile, and only the next save waits.
TEST(AsyncWriter, ASlowDiskHoldsUpNoStepButTheNextSave) {
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  FaultyFileSystem files([&](const FileOperation& operation) {
    if (operation.kind == "write") gone.wait();
    return true;
  });
  const std::string folder = fresh_folder();
  const std::vector<TensorGroup> groups = state_at(1);
  const std::vector<Shard> shards = plan_shards(groups, 1, 1);
  AsyncWriter writer(files, true);
  writer.save(folder, shards, 0, groups);  // returns, or the test hangs here
  EXPECT_TRUE(writer.busy());
  std::future<void> next = std::async(std::launch::async, [&] {
    writer.wait();
    writer.save(folder, shards, 0, groups);
    writer.wait();
  });
  EXPECT_EQ(next.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  go.set_value();
  next.get();
  EXPECT_FALSE(writer.busy());
}

TEST(AsyncWriter, InTheForegroundErrorsAreThrownAtOnce) {
  FaultyFileSystem files([](const FileOperation&) -> bool { throw Error(Code::kStorage, "full"); });
  const std::vector<TensorGroup> groups = state_at(1);
  AsyncWriter writer(files, false);
  error_of(Code::kStorage, [&] { writer.save("x", plan_shards(groups, 1, 1), 0, groups); });
  EXPECT_FALSE(writer.busy());
}

TEST(AsyncWriter, CommitsBehindInTheSameThread) {
  for (const bool asynchronous : {true, false}) {
    const std::string run = fresh_folder();
    const Life life = Life::claim(disk(), run, {});
    const std::vector<TensorGroup> groups = state_at(500);
    const std::vector<Shard> shards = plan_shards(groups, 1, 1);
    AsyncWriter writer(disk(), asynchronous);
    writer.reserve(shards, 0, groups);
    const std::string hidden = begin_checkpoint(disk(), run, 500, life);
    writer.save(hidden, shards, 0, groups);
    CheckpointManifest manifest;
    manifest.set_images(500);
    for (CheckpointFile& record : writer.wait()) *manifest.add_file() = std::move(record);
    EXPECT_GT(writer.write_seconds(), 0);
    writer.run([&] { commit_checkpoint(disk(), run, hidden, manifest, life); });
    writer.wait();
    expect_state(choose_checkpoint(disk(), run)->folder, 500);
    error_of(Code::kStorage, [&] {
      writer.run([] { fail(Code::kStorage, "later"); });
      writer.wait();
    });
  }
}

TEST(AsyncWriter, GivenCopiesAreUsedAndWaitedFor) {
  const std::string folder = fresh_folder();
  int copies = 0, waits = 0;
  size_t allocated = 0;
  Staging staging;
  staging.allocate = [&](size_t bytes) {
    allocated += bytes;
    return std::shared_ptr<void>(std::malloc(bytes), std::free);
  };
  staging.copy = [&](const at::Tensor& into, const at::Tensor& from) {
    ++copies;
    into.copy_(from);
  };
  staging.wait = [&] { ++waits; };
  const std::vector<TensorGroup> groups = state_at(1);
  const std::vector<Shard> shards = plan_shards(groups, 1, 1);
  AsyncWriter writer(disk(), true, staging);
  writer.reserve(shards, 0, groups);
  writer.wait();
  const size_t reserved = allocated;
  EXPECT_GT(reserved, 0U);
  for (int i = 0; i < 2; ++i) {
    writer.save(folder, shards, 0, groups);
    writer.wait();
  }
  EXPECT_EQ(copies, 20);
  EXPECT_EQ(waits, 2);
  EXPECT_EQ(allocated, reserved) << "memory is allocated once";
}

}  // namespace
}  // namespace lf
