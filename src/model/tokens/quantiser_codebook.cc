// Codebooks: a vector is replaced by the nearest code. One kind tracks running means of its vectors
// (EMA), the other is a weight with its own loss; both start from k-means over the first batch.
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "kernels/nearest_code.h"
#include "model/tokens/quantiser.h"
#include "model/tokens/transformer.h"

namespace lf {

at::Tensor straight_through(const at::Tensor& z, const at::Tensor& codes) {
  return z + (codes - z).detach();
}

namespace {

// [K, D + 1]: for each code the sum of its vectors and, in the last column, their count.
at::Tensor tally(const at::Tensor& z, const at::Tensor& ids, int64_t codes) {
  at::Tensor sums = at::zeros({codes, z.size(1) + 1}, z.options());
  sums.slice(1, 0, -1).index_add_(0, ids, z);
  sums.select(1, -1).copy_(code_counts(ids, codes));
  return sums;
}

at::Tensor vectors_of(const at::Tensor& table) { return table.slice(1, 0, -1); }
at::Tensor counts_of(const at::Tensor& table) { return table.slice(1, -1); }

// For each code one vector of the micro-batch over all ranks, drawn by a key that does not depend
// on the rank. A rank fills in the vectors it holds, so that the sum over ranks has them all; the
// last column is 1 where a rank did. Ranks hold equal slices of the batch, cut into equal parts.
at::Tensor draw_vectors(const at::Tensor& z, int64_t codes, const Clips& clips,
                        const BatchPlan& plan, uint32_t stream_id) {
  const int64_t tokens = z.size(0) / clips.size();
  const std::vector<at::Tensor> drawn = chosen_on_host(clips, [=](const Clips& keys) {
    const int64_t part = keys.size(), slice = part * plan.parts;
    const int64_t at = keys.first_position - plan.first(keys);
    const int64_t rank = at / slice, micro = at % slice / part;
    const auto all = static_cast<uint64_t>(std::max(plan.clips / plan.parts, part) * tokens);
    const Stream stream{keys.seed, Purpose::kCodebook, static_cast<uint64_t>(plan.first(keys)),
                        static_cast<uint32_t>(micro), stream_id};
    std::vector<int64_t> rows(static_cast<size_t>(codes), 0);
    std::vector<float> mine(static_cast<size_t>(codes), 0);
    for (size_t code = 0; code < rows.size(); ++code) {
      const auto token = static_cast<int64_t>(random_below(stream, code, all));
      if (token / (part * tokens) != rank) continue;
      rows[code] = token % (part * tokens);
      mine[code] = 1;
    }
    return std::vector<at::Tensor>{at::tensor(rows, at::kLong), at::tensor(mine).unsqueeze(1)};
  });
  const at::Tensor vectors =
      at::where(drawn[1] > 0, z.index_select(0, drawn[0]), at::zeros_like(z.slice(0, 0, 1)));
  return at::cat({vectors, drawn[1]}, 1);
}

// k-means from drawn vectors; [K, D + 1]: centres and, in the last column, counts. Collective.
at::Tensor k_means(const KernelChoice& kernels, const at::Tensor& z, const at::Tensor& fallback,
                   const Clips& clips, const BatchPlan& plan, int rounds, bool cosine) {
  at::Tensor drawn = draw_vectors(z, fallback.size(0), clips, plan, 0);
  plan.add_up(drawn);
  at::Tensor centres = at::where(counts_of(drawn) > 0, vectors_of(drawn), fallback);
  at::Tensor counts = at::zeros_like(counts_of(drawn));
  for (int round = 0; round < rounds; ++round) {
    at::Tensor sums = tally(z, nearest_code(kernels, z, centres), centres.size(0));
    plan.add_up(sums);
    counts = counts_of(sums);
    centres = at::where(counts > 0, vectors_of(sums) / counts.clamp_min(1), centres);
    if (cosine) centres = directions(centres);
  }
  return at::cat({centres, counts}, 1);
}

// Reads `started` from the device until it is set; `known` caches the result.
bool has_started(const at::Tensor& started, bool& known) {
  known = known || started.item<float>() > 0;
  return known;
}

bool all_finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

class EmaQuantiser : public Quantiser {
 public:
  EmaQuantiser(const EmaQuantiserConfig& config, const Scope& scope, BatchPlan plan)
      : kernels_(scope.kernels()), config_(config), plan_(std::move(plan)) {
    codebook_ = scope.buffer("codebook", {config.codes(), config.dim()}, Init::kFanIn);
    if (config.cosine()) codebook_.copy_(directions(codebook_));
    sums_ = scope.buffer("sums", at::zeros({config.codes(), config.dim() + 1}));
    started_ = scope.buffer("started", at::zeros({1}));
  }

  int64_t codes() const override { return config_.codes(); }
  int64_t dim() const override { return config_.dim(); }

  Quantised quantise(const at::Tensor& z, const Clips& clips, bool learn) override {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    const at::Tensor given = config_.cosine() ? directions(z) : z;
    const at::Tensor rows = given.detach().reshape({-1, dim()});
    if (learn && !has_started(started_, known_)) start(rows, clips);
    const at::Tensor ids = nearest_code(kernels_, rows, codebook_);
    if (learn) remember(rows, ids, clips);
    const at::Tensor found = at::embedding(codebook_, ids).view(z.sizes());
    return {straight_through(given, found), ids.view(z.sizes().slice(0, z.dim() - 1)),
            config_.commitment() * at::mse_loss(given, found)};
  }

  at::Tensor lookup(const at::Tensor& ids) const override { return at::embedding(codebook_, ids); }

  void after_update(int64_t images, const at::Tensor& moved) override {
    const at::NoGradGuard no_grad;
    if (!seen_.defined()) return;
    at::Tensor all = at::cat({seen_, drawn_}, 1);
    seen_ = drawn_ = at::Tensor();
    plan_.add_up(all);
    const at::Tensor now = all.slice(1, 0, dim() + 1), drawn = all.slice(1, dim() + 1);
    const double decay = std::exp2(-static_cast<double>(images) / config_.half_life_images());
    const at::Tensor sums = sums_.mul(decay).add_(now, 1 - decay);
    const at::Tensor mean_count = counts_of(now).mean();
    // Laplace smoothing: the count of an unused code must not be 0.
    constexpr double kEpsilon = 1e-5;
    const at::Tensor total = counts_of(sums).sum();
    const at::Tensor smooth =
        (counts_of(sums) + kEpsilon) / (total + static_cast<double>(codes()) * kEpsilon) * total;
    at::Tensor next = vectors_of(sums) / smooth;
    if (config_.cosine()) next = directions(next);
    const at::Tensor least = mean_count * config_.revive();
    const at::Tensor dead = (counts_of(sums) < least).logical_and(counts_of(drawn) > 0);
    const at::Tensor revived = at::cat({vectors_of(drawn) * least, counts_of(drawn) * least}, 1);
    const at::Tensor yes = moved > 0;
    codebook_.copy_(at::where(yes, at::where(dead, vectors_of(drawn), next), codebook_));
    sums_.copy_(at::where(yes, at::where(dead, revived, sums), sums_));
  }

 private:
  void start(const at::Tensor& rows, const Clips& clips) {
    const at::NoGradGuard no_grad;
    const at::Tensor found =
        k_means(kernels_, rows, codebook_, clips, plan_, config_.kmeans(), config_.cosine());
    if (!all_finite(found)) return;  // the step will be skipped; the next one tries again
    codebook_.copy_(vectors_of(found));
    at::Tensor counts = counts_of(found) * static_cast<double>(plan_.parts);
    if (config_.kmeans() == 0) {
      const int64_t rows_a_clip = rows.size(0) / clips.size();
      const double mean =
          static_cast<double>(rows_a_clip * plan_.clips) / static_cast<double>(codes());
      counts = counts + mean;
    }
    sums_.copy_(at::cat({codebook_ * counts, counts}, 1));
    started_.fill_(1);
  }

  // Accumulates over the micro-batches of a step.
  void remember(const at::Tensor& rows, const at::Tensor& ids, const Clips& clips) {
    const at::NoGradGuard no_grad;
    const int64_t batch = plan_.first(clips);
    const at::Tensor sums = tally(rows, ids, codes());
    seen_ = seen_.defined() && batch == batch_ ? seen_ + sums : sums;
    batch_ = batch;
    drawn_ = draw_vectors(rows, codes(), clips, plan_, 1);
  }

  KernelChoice kernels_;
  EmaQuantiserConfig config_;
  BatchPlan plan_;
  at::Tensor codebook_;      // [K, D]
  at::Tensor sums_;          // [K, D + 1]: running sums of vectors, and their counts
  at::Tensor started_;       // 1 once k-means is done
  bool known_ = false;       // that started_ is 1
  at::Tensor seen_, drawn_;  // of this rank, since the last update
  int64_t batch_ = 0;
};

class LearntQuantiser : public Quantiser {
 public:
  LearntQuantiser(const LearntQuantiserConfig& config, const Scope& scope, BatchPlan plan)
      : kernels_(scope.kernels()), config_(config), plan_(std::move(plan)) {
    codebook_ = scope.weight("codebook", {config.codes(), config.dim()}, Init::kFanIn);
    started_ = scope.buffer("started", at::zeros({1}));
  }

  int64_t codes() const override { return config_.codes(); }
  int64_t dim() const override { return config_.dim(); }

  Quantised quantise(const at::Tensor& z, const Clips& clips, bool learn) override {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    const at::Tensor rows = z.detach().reshape({-1, dim()});
    if (learn && !has_started(started_, known_)) {
      const at::NoGradGuard no_grad;
      const at::Tensor found =
          k_means(kernels_, rows, codebook_.detach(), clips, plan_, config_.kmeans(), false);
      if (all_finite(found)) {
        codebook_.detach().copy_(vectors_of(found));
        started_.fill_(1);
      }
    }
    const at::Tensor ids = nearest_code(kernels_, rows, codebook_.detach());
    const at::Tensor found = at::embedding(codebook_, ids).view(z.sizes());
    return {
        straight_through(z, found), ids.view(z.sizes().slice(0, z.dim() - 1)),
        at::mse_loss(found, z.detach()) + config_.commitment() * at::mse_loss(z, found.detach())};
  }

  at::Tensor lookup(const at::Tensor& ids) const override { return at::embedding(codebook_, ids); }

 private:
  KernelChoice kernels_;
  LearntQuantiserConfig config_;
  BatchPlan plan_;
  at::Tensor codebook_, started_;
  bool known_ = false;  // that started_ is 1
};

}  // namespace

at::Tensor code_counts(const at::Tensor& ids, int64_t codes) {
  const at::Tensor flat = ids.flatten();
  const at::TensorOptions single = flat.options().dtype(at::kFloat);
  return at::zeros({codes}, single).index_add_(0, flat, at::ones({flat.numel()}, single));
}

std::unique_ptr<Quantiser> make_ema_quantiser(const EmaQuantiserConfig& config, const Scope& scope,
                                              const BatchPlan& plan) {
  return std::make_unique<EmaQuantiser>(config, scope, plan);
}

std::unique_ptr<Quantiser> make_learnt_quantiser(const LearntQuantiserConfig& config,
                                                 const Scope& scope, const BatchPlan& plan) {
  return std::make_unique<LearntQuantiser>(config, scope, plan);
}

std::unique_ptr<Quantiser> make_quantiser(const QuantiserConfig& config, const Scope& scope,
                                          const BatchPlan& plan) {
  switch (config.kind_case()) {
    case QuantiserConfig::kEma:
    case QuantiserConfig::KIND_NOT_SET:
      return make_ema_quantiser(config.ema(), scope, plan);
    case QuantiserConfig::kLearnt:
      return make_learnt_quantiser(config.learnt(), scope, plan);
    case QuantiserConfig::kFsq:
      return make_fsq_quantiser(config.fsq());
    case QuantiserConfig::kLfq:
      return make_lfq_quantiser(config.lfq(), plan);
    case QuantiserConfig::kVariational:
      return make_variational_bottleneck(config.variational());
  }
  LF_CHECK(false, "a quantiser without a case");
}

}  // namespace lf
