#include "comm/gradient_sync.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_zero.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/crc32c.h"
#include "base/error.h"

namespace lf {
namespace {

constexpr size_t kBroadcastBytes = size_t{64} << 20;

size_t bytes_of_mib(double mib) { return std::max<size_t>(1, static_cast<size_t>(mib * 1048576)); }

std::string describe(const std::vector<NamedTensor>& tensors) {
  std::string text;
  for (const auto& [name, tensor] : tensors) {
    text += lf::str(name, " ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(), "\n");
  }
  return text;
}

void broadcast_from_root(const ProcessGroupPtr& group, const std::vector<NamedTensor>& tensors) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> plain;
  for (const NamedTensor& named : tensors) plain.push_back(named.tensor.detach());
  if (!plain.empty()) c10d::broadcast_coalesced(group, plain, kBroadcastBytes, 0);
}

// Every node of the graph that backward from `loss` would visit.
std::unordered_set<const torch::autograd::Node*> nodes_behind(const at::Tensor& loss) {
  std::unordered_set<const torch::autograd::Node*> reached;
  std::vector<const torch::autograd::Node*> open;
  const auto reach = [&](const torch::autograd::Node* node) {
    if (node != nullptr && reached.insert(node).second) open.push_back(node);
  };
  reach(torch::autograd::impl::gradient_edge(loss).function.get());
  while (!open.empty()) {
    const torch::autograd::Node* node = open.back();
    open.pop_back();
    for (const auto& edge : node->next_edges()) reach(edge.function.get());
  }
  return reached;
}

// Done at once: a detour over the communication thread would cost a small step its time.
c10::intrusive_ptr<c10::ivalue::Future> mean_of_one(std::vector<at::Tensor> gradients) {
  auto done =
      c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
  done->markCompleted(c10::IValue(std::move(gradients)));
  return done;
}

// Sums first and divides once, off the thread that computes. Reducer itself divides before summing:
// by multiplication with 1/n when it copies a gradient into its bucket, else by division, so the
// first backward of a run would round differently from all later ones.
class MeanOverRanks : public c10d::CppCommHookInterface<ProcessGroupPtr> {
 public:
  MeanOverRanks(const ProcessGroupPtr& group, Clock::time_point& last_bucket)
      : CppCommHookInterface(group), last_bucket_(last_bucket) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> gradients = {bucket.getBufferRef()};
    last_bucket_ = Clock::now();
    if (state_->getSize() == 1) return mean_of_one(std::move(gradients));
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::AVG;
    return state_->allreduce(gradients, options)->getFuture();
  }

 private:
  Clock::time_point& last_bucket_;
};

uint32_t crc_of(const at::Tensor& tensor) {
  at::Tensor host = tensor.detach().cpu();
  // In memory order if there are no gaps: the ranks' layouts are equal.
  if (!host.is_non_overlapping_and_dense()) host = host.contiguous();
  return crc32c(host.data_ptr(), host.nbytes());
}

}  // namespace

GradientSyncOptions GradientSyncOptions::from(const CommConfig& config) {
  GradientSyncOptions options;
  options.bucket_mib = config.bucket_mib();
  options.first_bucket_mib = config.first_bucket_mib();
  return options;
}

GradientSync::GradientSync(World& world, ProcessGroupPtr group,
                           const std::vector<NamedTensor>& parameters,
                           const GradientSyncOptions& options)
    : world_(world), group_(std::move(group)), options_(options) {
  for (const NamedTensor& named : parameters) {
    if (named.tensor.requires_grad()) parameters_.push_back(named);
  }
  world_.agree("set of trained parameters", describe(parameters_));
  if (parameters_.empty()) {
    fail(Code::kUsage, "none of the ", parameters.size(),
         " parameters given to the gradient synchronisation requires a gradient");
  }
  broadcast_from_root(group_, parameters_);
  std::reverse(parameters_.begin(), parameters_.end());
  if (options_.graph != GradientGraph::kStatic) lay_out();
}

GradientSync::~GradientSync() = default;

void GradientSync::lay_out() {
  std::vector<at::Tensor> tensors;
  std::unordered_map<size_t, std::string> names;
  for (const auto& [name, tensor] : parameters_) {
    names[tensors.size()] = name;
    tensors.push_back(tensor);
  }
  const std::vector<bool> sparse(tensors.size(), false);
  const size_t first = bytes_of_mib(options_.first_bucket_mib);
  const size_t rest = bytes_of_mib(options_.bucket_mib);
  const auto buckets =
      std::get<0>(c10d::compute_bucket_assignment_by_size(tensors, {first, rest}, sparse));
  reducer_ = std::make_unique<c10d::Reducer>(
      tensors, buckets, group_, sparse, static_cast<int64_t>(rest),
      options_.graph == GradientGraph::kAnyParameter, options_.gradients_are_views, names,
      static_cast<int64_t>(first), /*skip_all_reduce_unused_params=*/false,
      /*use_python_reducer=*/false, /*bucket_bytes_cap_list=*/std::vector<int64_t>{});
  reducer_->register_comm_hook(std::make_unique<MeanOverRanks>(group_, last_bucket_));
  if (options_.layout == BucketLayout::kFixed) {
    // Reducer rebuilds its buckets once, in the order in which gradients were reported. Reporting
    // them in the present order now gets this over with before the first backward.
    reducer_->push_rebuilt_params_for_all_indices();
    reducer_->rebuild_buckets();
  }
}

void GradientSync::broadcast(const std::vector<NamedTensor>& tensors) {
  broadcast_from_root(group_, tensors);
}

void GradientSync::prepare(bool will_sync, const at::Tensor& loss) {
  if (!will_sync) return;
  if (reducer_ == nullptr) {
    leave_out_unused(loss);
    lay_out();
  }
  reducer_->prepare_for_forward();
  if (reducer_->rebuild_buckets()) rebuilt_ = true;
  std::vector<at::Tensor> outputs;
  if (options_.graph == GradientGraph::kAnyParameter) outputs.push_back(loss);
  reducer_->prepare_for_backward(outputs);
}

// Reducer has a mode for static graphs of its own, but it counts the backwards that do not sync
// as well, so that with micro-batches it then waits for gradients that never come.
void GradientSync::leave_out_unused(const at::Tensor& loss) {
  const std::unordered_set<const torch::autograd::Node*> reached = nodes_behind(loss);
  std::vector<NamedTensor> used;
  for (const NamedTensor& named : parameters_) {
    const auto accumulator = torch::autograd::impl::grad_accumulator(named.tensor);
    (reached.contains(accumulator.get()) ? used : left_out_).push_back(named);
  }
  world_.agree("set of parameters behind the loss", describe(used));
  if (used.empty()) {
    fail(Code::kBug, "the loss depends on none of the ", parameters_.size(),
         " parameters whose gradients are to be shared");
  }
  parameters_ = std::move(used);
}

void GradientSync::finish(bool will_sync) {
  if (!will_sync) return;
  // The last bucket fills when the computation ends; what backward took after that was waiting.
  exposed_ += seconds_since(last_bucket_);
  for (const auto& [name, tensor] : left_out_) {
    if (tensor.grad().defined()) {
      fail(Code::kBug, "parameter '", name, "' got a gradient, but the first backward left it out ",
           "and the graph is declared static; use GradientGraph::kAnyParameter");
    }
  }
}

void GradientSync::backward(const at::Tensor& loss, bool will_sync) {
  prepare(will_sync, loss);
  loss.backward();
  finish(will_sync);
}

void GradientSync::zero_gradients() {
  std::vector<at::Tensor> gradients;
  for (const NamedTensor& named : parameters_) {
    at::Tensor& gradient = named.tensor.mutable_grad();
    if (gradient.defined()) gradients.push_back(gradient);
  }
  if (!gradients.empty()) at::_foreach_zero_(gradients);
}

int64_t GradientSync::buckets() const {
  if (reducer_ == nullptr) return 0;
  return static_cast<int64_t>(reducer_->get_grad_buckets(/*return_zero_tensors=*/true).size());
}

void GradientSync::check_replicas(const std::string& moment,
                                  const std::vector<NamedTensor>& others) {
  std::vector<NamedTensor> all(parameters_.rbegin(), parameters_.rend());
  all.insert(all.end(), left_out_.rbegin(), left_out_.rend());
  all.insert(all.end(), others.begin(), others.end());
  check_equal_over_ranks(world_, moment, all);
}

void check_equal_over_ranks(World& world, const std::string& moment,
                            const std::vector<NamedTensor>& tensors) {
  if (world.size() == 1) return;
  std::vector<uint32_t> sums;
  for (const NamedTensor& named : tensors) sums.push_back(crc_of(named.tensor));
  const auto* bytes = reinterpret_cast<const char*>(sums.data());
  const size_t size = sums.size() * sizeof(uint32_t);
  const auto all = static_cast<int64_t>(crc32c(bytes, size, crc32c("sums", 4)));
  if (world.min(all) == world.max(all)) return;

  const std::vector<std::string> by_rank = world.all_gather(std::string(bytes, size));
  const Dissent dissent = find_dissent(by_rank);
  const std::string& odd = by_rank[static_cast<size_t>(dissent.ranks.front())];
  const std::string& reference = by_rank[static_cast<size_t>(dissent.reference)];
  const auto mismatch = std::mismatch(odd.begin(), odd.end(), reference.begin(), reference.end());
  const auto index = static_cast<size_t>(mismatch.first - odd.begin()) / sizeof(uint32_t);
  fail(Code::kBug, "replicas differ ", moment, ": ", name_ranks(dissent.ranks),
       dissent.ranks.size() == 1 ? " holds" : " hold", " other values than rank ",
       dissent.reference, ", first in '",
       index < tensors.size() ? tensors[index].name : std::string("?"),
       "'; start again from the last checkpoint, and look at that machine's memory if it recurs");
}

}  // namespace lf
