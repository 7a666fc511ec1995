// The bottleneck of a variational autoencoder, with the interface of a quantiser but without codes.
// The encoder predicts mean and log variance of a normal vector, which is sampled in training and
// its mean otherwise.
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/exp.h>

#include "base/error.h"
#include "model/tokens/quantiser.h"

namespace lf {
namespace {

class VariationalBottleneck : public Quantiser {
 public:
  explicit VariationalBottleneck(const VariationalConfig& config) : config_(config) {}

  int64_t codes() const override { return 0; }
  int64_t dim() const override { return config_.dim(); }
  int64_t input_dim() const override { return 2 * int64_t{config_.dim()}; }

  Quantised quantise(const at::Tensor& moments, const Clips& clips, bool learn) override {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    const at::Tensor mean = moments.slice(-1, 0, dim());
    const at::Tensor log_variance = moments.slice(-1, dim()).clamp(-30, 20);
    const at::Tensor nats = 0.5 * (mean.square() + at::exp(log_variance) - 1 - log_variance).mean();
    at::Tensor z = mean;
    if (learn) {
      z = mean + at::exp(0.5 * log_variance) *
                     keyed_normal(clips, Purpose::kLatent, 0, mean.sizes().slice(1));
    }
    return {z, {}, config_.kl() * nats};
  }

  at::Tensor lookup(const at::Tensor& /*ids*/) const override {
    LF_CHECK(false, "a variational bottleneck has no codes");
  }

 private:
  VariationalConfig config_;
};

}  // namespace

std::unique_ptr<Quantiser> make_variational_bottleneck(const VariationalConfig& config) {
  return std::make_unique<VariationalBottleneck>(config);
}

}  // namespace lf
