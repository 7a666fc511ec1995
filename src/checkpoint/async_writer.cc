#include "checkpoint/async_writer.h"

#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace lf {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = 2 << 20;

// Touched once, in huge pages where the system has them, so that no save pays for page faults.
std::shared_ptr<void> allocate_pages(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail(Code::kUsage, "no memory for the ", human_bytes(bytes),
         " of staging that asynchronous checkpoints need; set checkpoint.asynchronous=false");
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  std::memset(memory, 0, bytes);
  return {memory, [bytes](void* p) { ::munmap(p, bytes); }};
}

// Bytes to copy in memory order.
struct Run {
  char* into;
  const void* from;
  size_t bytes;
};

void copy_runs(const Run* begin, const Run* end) {
  for (; begin != end; ++begin) std::memcpy(begin->into, begin->from, begin->bytes);
}

// One core does not fill the memory's bandwidth. Two threads for all of it, not several for each
// tensor: those would wait for threads that the loader or another process keeps busy.
void copy_on_two_threads(const std::vector<Run>& runs) {
  constexpr size_t kWorthAThread = size_t{16} << 20;
  size_t all = 0, first = 0, middle = 0;
  for (const Run& run : runs) all += run.bytes;
  if (all < kWorthAThread) return copy_runs(runs.data(), runs.data() + runs.size());
  while (middle < runs.size() && first < all / 2) first += runs[middle++].bytes;
  const auto second =
      std::async(std::launch::async, copy_runs, runs.data() + middle, runs.data() + runs.size());
  copy_runs(runs.data(), runs.data() + middle);
  second.wait();
}

}  // namespace

AsyncWriter::AsyncWriter(FileSystem& files, bool asynchronous, Staging staging)
    : files_(files), asynchronous_(asynchronous), staging_(std::move(staging)) {
  if (!staging_.allocate) staging_.allocate = allocate_pages;
  if (!staging_.wait) staging_.wait = [] {};
}

AsyncWriter::~AsyncWriter() {
  if (!in_flight_.valid()) return;
  try {
    in_flight_.get();
  } catch (const std::exception& error) {
    LF_ERROR("the last save failed: ", error.what());
  }
}

AsyncWriter::Plan AsyncWriter::plan(const std::vector<Shard>& shards, int writer,
                                    const std::vector<TensorGroup>& groups) {
  Plan plan;
  for (const Shard& shard : shards) {
    if (shard.writer != writer) continue;
    File file{shard.file, shard.kind, {}};
    const std::set<std::string> mine(shard.names.begin(), shard.names.end());
    for (const TensorGroup& group : groups) {
      if (group.kind != shard.kind) continue;
      for (const NamedTensor& named : group.tensors) {
        if (!mine.contains(named.name)) continue;
        file.tensors.push_back({layout_of(named), nullptr, {}});
        plan.copies.push_back({named.tensor.detach(), named.tensor.sizes().vec(), plan.bytes});
        plan.bytes +=
            (file.tensors.back().layout.bytes() + kAlignment - 1) / kAlignment * kAlignment;
      }
    }
    plan.files.push_back(std::move(file));
  }
  return plan;
}

void AsyncWriter::make_room(size_t bytes) {
  if (bytes <= capacity_) return;
  memory_.reset();
  capacity_ = 0;
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  memory_ = staging_.allocate(rounded);
  capacity_ = rounded;
}

void AsyncWriter::reserve(const std::vector<Shard>& shards, int writer,
                          const std::vector<TensorGroup>& groups) {
  finish_former();
  if (!asynchronous_) return;
  in_flight_ = std::async(std::launch::async, [this, bytes = plan(shards, writer, groups).bytes] {
    make_room(bytes);
    return std::vector<CheckpointFile>();
  });
}

void AsyncWriter::stage(Plan& plan) {
  make_room(plan.bytes);
  size_t next = 0;
  std::vector<Run> runs;
  for (File& file : plan.files) {
    for (HostTensor& tensor : file.tensors) {
      const Copy& copy = plan.copies[next++];
      char* place = static_cast<char*>(memory_.get()) + copy.offset;
      tensor.bytes = place;
      if (copy.from.numel() == 0) continue;
      if (!staging_.copy && copy.from.is_cpu() && copy.from.is_non_overlapping_and_dense()) {
        // In memory order; the writer rearranges it.
        runs.push_back({place, copy.from.const_data_ptr(), tensor.layout.bytes()});
        if (!copy.from.is_contiguous()) tensor.strides = copy.from.strides().vec();
        continue;
      }
      const at::Tensor into =
          at::from_blob(place, copy.shape, at::TensorOptions(copy.from.scalar_type()));
      staging_.copy ? staging_.copy(into, copy.from) : void(into.copy_(copy.from));
    }
  }
  copy_on_two_threads(runs);
  staging_.wait();
}

std::vector<CheckpointFile> AsyncWriter::write(const std::string& hidden_folder,
                                               const std::vector<File>& to_write) const {
  std::vector<CheckpointFile> records;
  for (const File& file : to_write) {
    records.push_back(write_tensor_file(files_, hidden_folder, file.name, file.kind, file.tensors));
  }
  if (!records.empty()) files_.sync_folder(hidden_folder);
  return records;
}

std::vector<CheckpointFile> AsyncWriter::timed(
    const std::function<std::vector<CheckpointFile>()>& writing) {
  const auto begin = Clock::now();
  std::vector<CheckpointFile> records = writing();
  write_seconds_ = seconds_since(begin);
  return records;
}

void AsyncWriter::save(const std::string& hidden_folder, const std::vector<Shard>& shards,
                       int writer, const std::vector<TensorGroup>& groups) {
  finish_former();
  if (!asynchronous_) {
    std::promise<std::vector<CheckpointFile>> done;
    done.set_value(
        timed([&] { return write_shards(files_, hidden_folder, shards, writer, groups); }));
    in_flight_ = done.get_future();
    return;
  }
  Plan staged = plan(shards, writer, groups);
  stage(staged);
  in_flight_ =
      std::async(std::launch::async, [this, hidden_folder, to_write = std::move(staged.files)] {
        return timed([&] { return write(hidden_folder, to_write); });
      });
}

void AsyncWriter::run(std::function<void()> work) {
  finish_former();
  if (!asynchronous_) return work();
  in_flight_ = std::async(std::launch::async, [work = std::move(work)] {
    work();
    return std::vector<CheckpointFile>();
  });
}

void AsyncWriter::finish_former() {
  const std::vector<CheckpointFile> records = wait();
  LF_CHECK(records.empty(), "the records of the last save were not taken");
}

bool AsyncWriter::busy() const {
  return in_flight_.valid() &&
         in_flight_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

std::vector<CheckpointFile> AsyncWriter::wait() {
  if (!in_flight_.valid()) return {};
  return std::exchange(in_flight_, {}).get();
}

}  // namespace lf
