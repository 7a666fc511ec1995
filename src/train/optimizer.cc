#include "train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "base/glob.h"

namespace lf {

double learning_rate(const OptimizerConfig& config, double base, int64_t images,
                     int64_t run_images) {
  const auto warmup = static_cast<double>(config.warmup_images());
  const auto at = static_cast<double>(images);
  const double ramp = warmup > 0 ? std::min(1.0, at / warmup) : 1.0;
  const auto decay = static_cast<double>(config.decay_images());
  switch (config.schedule()) {
    case CONSTANT:
      return base * ramp;
    case COSINE: {
      const double end = decay > 0 ? decay : static_cast<double>(run_images);
      const double part = std::clamp((at - warmup) / std::max(1.0, end - warmup), 0.0, 1.0);
      return base * ramp * 0.5 * (1 + std::cos(std::numbers::pi * part));
    }
    case INVERSE_SQRT: {
      const double begin = std::max(1.0, decay > 0 ? decay : warmup);
      return base * ramp / std::sqrt(std::max(1.0, at / begin));
    }
  }
  return base;
}

namespace {

// "*temporal*=0.1" as a pattern and a factor.
struct Factor {
  std::string pattern;
  double factor = 1;
};

Factor parse_factor(const std::string& text) {
  const size_t equals = text.rfind('=');
  Factor made;
  if (equals != std::string::npos && equals > 0 &&
      parse(std::string_view(text).substr(equals + 1), &made.factor) && made.factor > 0 &&
      made.factor <= 1e6) {
    made.pattern = text.substr(0, equals);
    return made;
  }
  fail(Code::kUsage, "train.optimizer.factor has '", printable(text),
       "', expected PATTERN=FACTOR with a factor above 0 and up to 1000000, such as "
       "*temporal*=0.1; train.freeze keeps weights as they are");
}

}  // namespace

double learning_rate_factor(const OptimizerConfig& config, const std::string& name) {
  double factor = 1;
  for (const std::string& text : config.factor()) {
    const Factor one = parse_factor(text);
    if (matches_glob(one.pattern, name)) factor = one.factor;
  }
  return factor;
}

std::vector<std::string> factor_patterns(const OptimizerConfig& config) {
  std::vector<std::string> patterns;
  for (const std::string& text : config.factor()) patterns.push_back(parse_factor(text).pattern);
  return patterns;
}

Optimizer::Optimizer(const Phase& phase, const OptimizerConfig& config)
    : phase_(phase), config_(config) {
  LF_CHECK(!phase.weights.empty(), "phase ", phase.name, " has no weights");
  steps_ =
      at::zeros({}, phase.weights.front().tensor.options().dtype(at::kFloat).requires_grad(false));
  for (const NamedTensor& weight : phase.weights) {
    weights_.push_back(weight.tensor);
    Group& group = group_of(weight);
    group.weights.push_back(weight.tensor);
    group.exp_avg.push_back(at::zeros_like(weight.tensor.detach()));
    group.exp_avg_sq.push_back(at::zeros_like(weight.tensor.detach()));
    group.steps.push_back(steps_);
    moments_.push_back({group.exp_avg.back(), group.exp_avg_sq.back()});
  }
}

Optimizer::Group& Optimizer::group_of(const NamedTensor& weight) {
  const double decay = weight.tensor.dim() >= 2 ? config_.weight_decay() : 0;
  const double factor = learning_rate_factor(config_, weight.name);
  for (Group& group : groups_) {
    if (group.weight_decay == decay && group.factor == factor) return group;
  }
  Group& made = groups_.emplace_back(Group{decay, factor, {}, {}, {}, {}, {}});
  // The fused update wants it in single precision on a GPU.
  made.lr = at::zeros({}, steps_.options().dtype(steps_.is_cpu() ? at::kDouble : at::kFloat));
  return made;
}

std::vector<at::Tensor> Optimizer::gradients() const {
  std::vector<at::Tensor> out;
  out.reserve(weights_.size());
  for (const at::Tensor& weight : weights_) {
    LF_CHECK(weight.grad().defined(), "a weight of ", phase_.name, " got no gradient");
    out.push_back(weight.grad());
  }
  return out;
}

at::Tensor Optimizer::gradient_norm() const {
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients(), 2.0)));
}

void Optimizer::set_learning_rate(double lr) {
  for (Group& group : groups_) group.lr.fill_(lr * group.factor);
}

// Same layout? Strides of size-1 dimensions are ignored.
static bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

// The elements of each in the order of memory. LibTorch's fused update needs tensors of the same
// layout, which it does not check, and on CPU it copies what is not contiguous.
static std::vector<at::Tensor> flat(const std::vector<at::Tensor>& tensors,
                                    const std::vector<at::Tensor>& like) {
  std::vector<at::Tensor> out;
  out.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& one = tensors[i];
    LF_CHECK(same_layout(one, like[i]) && one.is_non_overlapping_and_dense(),
             "a gradient or moment that lies otherwise than its weight");
    out.push_back(one.is_contiguous()
                      ? one
                      : one.detach().as_strided({one.numel()}, {1}, one.storage_offset()));
  }
  return out;
}

// One pass over weights, gradients and moments, on whatever device they are: the update divides the
// gradients by `clip` as it reads them and leaves everything alone where `skip` is 1, so the host
// need not know the norm.
void Optimizer::step(const at::Tensor& norm) {
  const at::NoGradGuard no_grad;
  std::optional<at::Tensor> clip;
  if (config_.clip_norm() > 0) clip = norm.add(1e-6).div_(config_.clip_norm()).clamp_min_(1.0);
  const at::Tensor skip = at::isfinite(norm).logical_not_().to(at::kFloat);
  steps_.sub_(skip).add_(1);
  for (Group& group : groups_) {
    std::vector<at::Tensor> grads;
    grads.reserve(group.weights.size());
    for (const at::Tensor& weight : group.weights) grads.push_back(weight.grad());
    const std::vector<at::Tensor>& like = group.weights;
    at::_fused_adamw_(flat(like, like), flat(grads, like), flat(group.exp_avg, like),
                      flat(group.exp_avg_sq, like), {}, group.steps, group.lr, config_.beta1(),
                      config_.beta2(), group.weight_decay, config_.epsilon(),
                      /*amsgrad=*/false, /*maximize=*/false, clip, skip);
  }
}

void Optimizer::enable(bool on) {
  for (at::Tensor& weight : weights_) weight.set_requires_grad(on);
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> out = {{phase_.name + "/steps", steps_}};
  for (size_t i = 0; i < weights_.size(); ++i) {
    out.push_back({phase_.weights[i].name + "/exp_avg", moments_[i][0]});
    out.push_back({phase_.weights[i].name + "/exp_avg_sq", moments_[i][1]});
  }
  return out;
}

}  // namespace lf
