// One collective: what a rank calls, in a form that ranks can compare, and the Work that its caller
// waits for. Nothing of MPI is in here.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <string>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

namespace lf {

// Ranks must make equal calls in equal order. Travels between ranks as plain bytes.
struct CollectiveCall {
  uint64_t sequence = 0;
  uint64_t bytes = 0;  // of this rank's tensor
  c10d::OpType operation = c10d::OpType::UNKNOWN;
  at::ScalarType element = at::kByte;
  int32_t reduction = -1;  // c10d::ReduceOp::RedOpType
  int32_t root = -1;

  // Never negative, so that its negation fits: one MIN over {h, -h} shows whether all are equal.
  int64_t fingerprint() const;
  const char* name() const;      // "all-reduce"
  std::string describe() const;  // "#7 all-reduce of 4000 bytes of Float, SUM"
};

// "rank 1 #7 barrier; ranks 0 and 2 #7 all-reduce of ..."
std::string describe_calls(const std::vector<CollectiveCall>& by_rank);

// The one dense tensor in host memory that a collective takes; anything else is Code::kBug.
at::Tensor only_tensor(const std::vector<at::Tensor>& tensors);

// Completed once, by the first of: the progress thread, the watch thread, abort().
class CollectiveWork : public c10d::Work {
 public:
  CollectiveWork(int rank, const CollectiveCall& call, const std::vector<at::Tensor>& inputs,
                 std::vector<at::Tensor> outputs);

  std::vector<at::Tensor> result() override { return outputs_; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  uint64_t getSequencenumber() const override { return sequence_; }

  void complete(const std::exception_ptr& error);  // null: done

 private:
  std::vector<at::Tensor> outputs_;
  uint64_t sequence_;
  std::atomic<bool> claimed_{false};
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

}  // namespace lf
