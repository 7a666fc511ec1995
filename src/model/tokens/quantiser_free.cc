// Quantisers without a codebook: FSQ rounds every element of a vector to one of a few levels, LFQ
// to its sign. An id is the code in mixed radix; the first element is the least significant digit
// for FSQ and the most significant for LFQ.
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/atanh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>

#include "base/error.h"
#include "model/tokens/quantiser.h"

namespace lf {
namespace {

class FsqQuantiser : public Quantiser {
 public:
  explicit FsqQuantiser(const std::vector<int64_t>& levels) {
    std::vector<int64_t> radix;
    for (const int64_t level : levels) {
      radix.push_back(codes_);
      codes_ *= level;
      if (codes_ > int64_t{1} << 30) {
        fail(Code::kUsage, "quantiser.fsq.levels make more than 2^30 codes; give fewer levels");
      }
    }
    levels_ = at::tensor(levels, at::kLong);
    radix_ = at::tensor(radix, at::kLong);
  }

  int64_t codes() const override { return codes_; }
  int64_t dim() const override { return levels_.size(0); }

  Quantised quantise(const at::Tensor& z, const Clips& /*clips*/, bool /*learn*/) override {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    go_to(z.device());
    const at::Tensor half = levels_.floor_divide(2);
    // tanh bounds an element to just over the outermost levels; with an even number of levels they
    // are offset by half a step.
    const at::Tensor reach = (levels_ - 1).to(at::kFloat) * (1.001 / 2);
    const at::Tensor offset = (1 - levels_.remainder(2)).to(at::kFloat) / 2;
    const at::Tensor bounded = (z + (offset / reach).atanh()).tanh() * reach - offset;
    const at::Tensor rounded = bounded.detach().round();
    const at::Tensor ids = ((rounded.to(at::kLong) + half) * radix_).sum(-1);
    return {straight_through(bounded, rounded) / half, ids, z.new_zeros({})};
  }

  at::Tensor lookup(const at::Tensor& ids) const override {
    go_to(ids.device());
    const at::Tensor half = levels_.floor_divide(2);
    const at::Tensor digits = ids.unsqueeze(-1).floor_divide(radix_).remainder(levels_);
    return (digits - half).to(at::kFloat) / half;
  }

 private:
  // Once, with the first vectors: a copy in each step would make the host wait for the device.
  void go_to(const at::Device& device) const {
    levels_ = levels_.to(device);
    radix_ = radix_.to(device);
  }

  mutable at::Tensor levels_, radix_;
  int64_t codes_ = 1;
};

at::Tensor signs_of(const at::Tensor& bits) { return bits.to(at::kFloat) * 2 - 1; }

// x log x, 0 at 0.
at::Tensor x_log_x(const at::Tensor& x) { return x * x.clamp_min(1e-30).log(); }

class LfqQuantiser : public Quantiser {
 public:
  LfqQuantiser(const LfqQuantiserConfig& config, BatchPlan plan)
      : config_(config), plan_(std::move(plan)) {
    std::vector<int64_t> radix;
    for (int bit = config.bits() - 1; bit >= 0; --bit) radix.push_back(int64_t{1} << bit);
    radix_ = at::tensor(radix, at::kLong);
  }

  int64_t codes() const override { return int64_t{1} << config_.bits(); }
  int64_t dim() const override { return config_.bits(); }

  Quantised quantise(const at::Tensor& z, const Clips& /*clips*/, bool learn) override {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    const at::Tensor bits = z.detach() > 0;
    const at::Tensor signs = signs_of(bits);
    at::Tensor loss = z.new_zeros({});
    if (config_.commitment() > 0) loss = loss + config_.commitment() * at::mse_loss(z, signs);
    if (config_.entropy() > 0) loss = loss + config_.entropy() * entropies(z, learn);
    return {straight_through(z, signs), (bits * radix_on(z.device())).sum(-1), loss};
  }

  at::Tensor lookup(const at::Tensor& ids) const override {
    const at::Tensor bits = ids.unsqueeze(-1).bitwise_and(radix_on(ids.device())) != 0;
    return signs_of(bits);
  }

 private:
  // Moved with the first vectors, like FsqQuantiser's.
  const at::Tensor& radix_on(const at::Device& device) const { return radix_ = radix_.to(device); }

  // E[H(p(c|z))] - diversity H(E[p(c|z)]) with p(c|z) = softmax over all sign vectors c of 2 s z.c.
  // p is a product over bits, so the first term is a sum over bits, and the mean in the second is a
  // product of two matrices with 2^(bits/2) columns: exact for any number of codes.
  at::Tensor entropies(const at::Tensor& z, bool learn) const {
    const at::Tensor on = at::sigmoid(4 * config_.sharpness() * z.reshape({-1, dim()}));
    const at::Tensor off = 1 - on;
    const at::Tensor per_vector = -(x_log_x(on) + x_log_x(off)).sum(1).mean();
    const int64_t high = dim() / 2;
    at::Tensor mean = at::matmul(joint(on, off, 0, high).t(), joint(on, off, high, dim())) /
                      static_cast<double>(on.size(0));
    at::Tensor global = at::cat({mean.detach().flatten(), mean.new_ones({1})});
    if (learn) plan_.add_up(global);
    global = (global.slice(0, 0, -1) / global.slice(0, -1)).view_as(mean);
    // The entropy and its derivative are those of the mean over all ranks. Each rank's own mean
    // carries the gradient; its average over ranks equals that of one process with all vectors.
    const at::Tensor entropy = -x_log_x(global).sum();
    const at::Tensor derivative = -(global.clamp_min(1e-30).log() + 1);
    const at::Tensor part = (derivative * mean).sum();
    return per_vector - config_.diversity() * (part + (entropy - part).detach());
  }

  // Joint probabilities [N, 2^(to - from)] of the bits from `from` to `to`.
  static at::Tensor joint(const at::Tensor& on, const at::Tensor& off, int64_t from, int64_t to) {
    at::Tensor all = on.new_ones({on.size(0), 1});
    for (int64_t bit = from; bit < to; ++bit) {
      const at::Tensor two = at::stack({off.select(1, bit), on.select(1, bit)}, 1);
      all = (all.unsqueeze(2) * two.unsqueeze(1)).flatten(1);
    }
    return all;
  }

  LfqQuantiserConfig config_;
  BatchPlan plan_;
  mutable at::Tensor radix_;
};

}  // namespace

std::unique_ptr<Quantiser> make_fsq_quantiser(const FsqQuantiserConfig& config) {
  std::vector<int64_t> levels(config.levels().begin(), config.levels().end());
  if (levels.empty()) levels = {8, 5, 5, 5};
  return std::make_unique<FsqQuantiser>(std::move(levels));
}

std::unique_ptr<Quantiser> make_lfq_quantiser(const LfqQuantiserConfig& config,
                                              const BatchPlan& plan) {
  return std::make_unique<LfqQuantiser>(config, plan);
}

}  // namespace lf
