// Data-parallel gradients: a thin layer over c10d::Reducer. Gives every rank the same parameters at
// the start, averages gradients over the ranks in buckets while backward still runs, and checks
// that the replicas have stayed equal. Not an optimiser, and knows no model: parameters are a list
// of named tensors, so that each phase of an adversarial training has a GradientSync of its own.
//
//   GradientSync sync(world, group, parameters, options);
//   sync.broadcast(buffers);
//   for each step:
//     for each micro-batch: sync.backward(loss / micro_batches, /*will_sync=*/is_last);
//     optimizer.step();
//     sync.zero_gradients();
//
// Order of summation: with three ranks or more the last bits of a gradient's sum depend on
// its place in its bucket. Reducer by itself moves gradients between buckets after the first
// backward; a resumed run would do so at another step and get other bits. So by default the layout
// is fixed at construction: parameters in the reverse of the order given, which should be that of
// their use in forward. kLearned is Reducer's own way: buckets in the order in which the first
// backward produced gradients. It overlaps better where the order given is far from the order of
// use, and is not bit-identical over a resume.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/named_tensor.h"
#include "comm/process_group.h"
#include "comm/world.h"

namespace c10d {
class Reducer;
}

namespace lf {

enum class BucketLayout { kFixed, kLearned };

enum class GradientGraph {
  kEveryParameter,  // each backward gives every parameter a gradient
  kStatic,          // as the first one that syncs: parameters it leaves out stay out
  kAnyParameter,    // each backward finds out anew which parameters it uses, at some cost
};

struct GradientSyncOptions {
  double bucket_mib = 25;
  double first_bucket_mib = 1;
  BucketLayout layout = BucketLayout::kFixed;
  GradientGraph graph = GradientGraph::kEveryParameter;
  bool gradients_are_views = true;  // of the buckets: no copy, half the memory

  static GradientSyncOptions from(const CommConfig& config);
};

class GradientSync {
 public:
  // Collective. Takes those of `parameters` that require a gradient, checks that all ranks have the
  // same names, shapes and types (else Code::kUsage), and gives them rank 0's values.
  GradientSync(World& world, ProcessGroupPtr group, const std::vector<NamedTensor>& parameters,
               const GradientSyncOptions& options = {});
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  // Collective. Rank 0's values for tensors that are no parameters (running means).
  void broadcast(const std::vector<NamedTensor>& tensors);

  // loss.backward(), after which each gradient is the mean over the ranks, or, without `will_sync`,
  // is accumulated on this rank only. Throws Code::kPeer if another rank is lost.
  void backward(const at::Tensor& loss, bool will_sync = true);

  // The same for a caller that runs backward itself: prepare, backward, finish. After prepare()
  // with `will_sync`, exactly one backward must follow. `loss` shows which parameters are used;
  // kEveryParameter does not look at it.
  void prepare(bool will_sync, const at::Tensor& loss);
  void finish(bool will_sync);

  // Sets gradients to zero in place; they stay views of their buckets. (An optimiser that detaches
  // or drops them costs a copy at the next backward.)
  void zero_gradients();

  // Collective. Throws Code::kBug on every rank, naming the ranks and the first tensor that
  // differ, unless all ranks hold the same bits in the parameters and `others`. Only our own
  // mistakes or failing memory make replicas diverge; the last good checkpoint is the way back.
  // `moment` is for the message.
  void check_replicas(const std::string& moment, const std::vector<NamedTensor>& others = {});

  int64_t buckets() const;  // as they are now
  // Seconds so far in which backward had nothing left to compute and waited for gradients.
  double exposed_seconds() const { return exposed_; }
  bool rebuilt() const { return rebuilt_; }

 private:
  void leave_out_unused(const at::Tensor& loss);
  void lay_out();

  World& world_;
  ProcessGroupPtr group_;
  GradientSyncOptions options_;
  std::vector<NamedTensor> parameters_;  // in the order in which gradients are expected
  std::vector<NamedTensor> left_out_;    // of a static graph
  Clock::time_point last_bucket_;
  double exposed_ = 0;
  std::unique_ptr<c10d::Reducer> reducer_;  // of a static graph only after its first prepare()
  bool rebuilt_ = false;
};

// Collective. The check behind check_replicas(), for tensors of any kind on any device.
void check_equal_over_ranks(World& world, const std::string& moment,
                            const std::vector<NamedTensor>& tensors);

}  // namespace lf
