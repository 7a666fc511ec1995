// Saves in the background: the tensors are copied to host memory between two steps, and a thread
// writes and syncs the files while training continues. At most one save is in flight; its bytes are
// those of a save in the foreground. An error surfaces at the next call. Every rank has one; when
// all ranks are done, rank 0 commits (checkpoint.h), in the same thread if it likes.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace lf {

// Where and how tensors are copied; the defaults serve tensors on the CPU and, more slowly, on any
// device. The CUDA plugin gives page-locked memory and copies on a stream of its own.
struct Staging {
  std::function<std::shared_ptr<void>(size_t bytes)> allocate;
  // May return before the copy is done; `into` is row-major in the memory allocated.
  std::function<void(const at::Tensor& into, const at::Tensor& from)> copy;
  // Returns when all copies are done.
  std::function<void()> wait;
};

class AsyncWriter {
 public:
  // Not `asynchronous`: everything is written before save() and run() return, without staging.
  AsyncWriter(FileSystem& files, bool asynchronous, Staging staging = {});
  ~AsyncWriter();  // waits; an error that no call has thrown is logged
  AsyncWriter(const AsyncWriter&) = delete;
  AsyncWriter& operator=(const AsyncWriter&) = delete;

  // Allocates the memory for such saves in the background, rather than in the first one.
  void reserve(const std::vector<Shard>& shards, int writer,
               const std::vector<TensorGroup>& groups);

  // Waits for what is in flight, copies the tensors of `writer`'s shards and returns; they may then
  // change. wait() returns the records, which must be taken before the next save.
  void save(const std::string& hidden_folder, const std::vector<Shard>& shards, int writer,
            const std::vector<TensorGroup>& groups);

  // Waits for what is in flight, then runs `work` (commit and prune) in the background.
  void run(std::function<void()> work);

  // Whether something is still being written. Never throws.
  bool busy() const;

  // Waits for what is in flight and throws its error; the records of a save, none after run().
  std::vector<CheckpointFile> wait();

  // How long the last save took to write and sync this rank's files; valid after wait().
  double write_seconds() const { return write_seconds_; }

 private:
  struct File {
    std::string name, kind;
    std::vector<HostTensor> tensors;
  };
  struct Copy {
    at::Tensor from;
    std::vector<int64_t> shape;
    size_t offset;
  };
  struct Plan {
    std::vector<File> files;
    std::vector<Copy> copies;  // in the order of the files' tensors
    size_t bytes = 0;
  };
  static Plan plan(const std::vector<Shard>& shards, int writer,
                   const std::vector<TensorGroup>& groups);
  void make_room(size_t bytes);
  void stage(Plan& plan);
  void finish_former();
  std::vector<CheckpointFile> write(const std::string& hidden_folder,
                                    const std::vector<File>& to_write) const;
  std::vector<CheckpointFile> timed(const std::function<std::vector<CheckpointFile>()>& writing);

  FileSystem& files_;
  bool asynchronous_;
  Staging staging_;
  std::shared_ptr<void> memory_;
  size_t capacity_ = 0;
  double write_seconds_ = 0;  // set before in_flight_ is ready
  std::future<std::vector<CheckpointFile>> in_flight_;
};

}  // namespace lf
