#include "model/tokens/prior_sampling.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/stop.h"

namespace lf {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// The parts that the three orders share: the network with guidance, and keyed draws.
class CodeSampler {
 public:
  CodeSampler(const PriorNetwork& network, const CodePriorConfig& config,
              const at::Tensor& labels_B, const Clips& key, uint32_t window)
      : network_(network),
        config_(config),
        key_(key),
        window_(window),
        labels_(labels_B),
        guided_(config.guidance() != 1 && config.classes() > 0) {
    if (guided_) labels_ = at::cat({labels_B, at::full_like(labels_B, -1)});
  }

  PriorNetwork::Cache cache() const { return network_.cache(labels_.size(0)); }
  at::Tensor begin() const { return network_.begin(labels_); }
  at::Tensor embed(const at::Tensor& ids, int64_t first) const {
    const at::Tensor tokens = network_.embed(ids, first);
    return guided_ ? tokens.repeat({2, 1, 1}) : tokens;
  }
  at::Tensor logits(const at::Tensor& tokens, const at::Tensor& mask, PriorNetwork::Cache* cache,
                    bool append) const {
    interruption_point();
    at::Tensor logits = network_.logits(tokens, mask, cache, append);
    if (!guided_) return logits;
    const std::vector<at::Tensor> both = logits.chunk(2);  // with class, without
    return both[1] + config_.guidance() * (both[0] - both[1]);
  }
  at::Tensor uniform(uint32_t round, at::IntArrayRef shape) const {
    return keyed_uniform(key_, Purpose::kSampling, (window_ << 20) + round, shape);
  }

  // Fills in the masked ones of `ids` [B, n] in rounds (MaskGIT); predict(ids) returns logits
  // [B, n, codes]. Each round keeps the most confident draws, by confidence with decreasing noise.
  template <typename Predict>
  at::Tensor fill_in(at::Tensor ids, uint32_t first_round, const Predict& predict) const {
    const int64_t total = ids.size(1);
    const at::Tensor given = ids != network_.mask();
    int64_t open = total - given[0].sum().item<int64_t>();
    const int64_t all_open = open;
    for (int round = 0; round < config_.rounds() && open > 0; ++round) {
      const at::Tensor draws = uniform(first_round + static_cast<uint32_t>(round), {total, 2});
      const at::Tensor known = ids != network_.mask();
      const at::Tensor logits = without_smoothing(predict(ids), config_.label_smoothing());
      const at::Tensor made =
          at::where(known, ids, draw_codes(logits, draws.select(2, 0), config_));
      open = open_after_round(all_open, open, round, config_.rounds());
      if (open == 0) return made;
      const double temperature =
          config_.choice_temperature() * (1 - static_cast<double>(round + 1) / config_.rounds());
      const at::Tensor gumbel = -(-draws.select(2, 1).clamp_min(1e-20).log()).log();
      const at::Tensor confidence =
          (logits.log_softmax(-1).gather(2, made.unsqueeze(2)).squeeze(2) + temperature * gumbel)
              .masked_fill(known, -kNever);
      const at::Tensor again = std::get<1>(confidence.topk(open, 1, /*largest=*/false));
      ids = made.scatter(1, again, network_.mask());
    }
    return ids;
  }

 private:
  const PriorNetwork& network_;
  const CodePriorConfig& config_;
  const Clips& key_;
  uint32_t window_;
  at::Tensor labels_;
  bool guided_;
};

at::Tensor one_by_one(const PriorNetwork& network, const CodePriorConfig& config,
                      const CodeSampler& sampler, const at::Tensor& ids) {
  const at::Tensor draws = sampler.uniform(0, {network.positions()});
  PriorNetwork::Cache cache = sampler.cache();
  at::Tensor tokens = at::cat({sampler.begin(), sampler.embed(ids, 0)}, 1);
  at::Tensor mask = network.causal_mask(tokens.size(1));
  std::vector<at::Tensor> all = {ids};
  for (int64_t position = ids.size(1); position < network.positions(); ++position) {
    const at::Tensor logits = sampler.logits(tokens, mask, &cache, true).slice(1, -1);
    all.push_back(draw_codes(logits, draws.slice(1, position, position + 1), config));
    tokens = sampler.embed(all.back(), position);
    mask = at::Tensor();
  }
  return at::cat(all, 1);
}

at::Tensor all_at_once(const PriorNetwork& network, const CodeSampler& sampler,
                       const at::Tensor& known) {
  const at::Tensor open = at::full({known.size(0), network.positions() - known.size(1)},
                                   network.mask(), known.options());
  return sampler.fill_in(at::cat({known, open}, 1), 0, [&](const at::Tensor& ids) {
    const at::Tensor tokens = at::cat({sampler.begin(), sampler.embed(ids, 0)}, 1);
    return sampler.logits(tokens, {}, nullptr, false).slice(1, 1);
  });
}

at::Tensor frame_by_frame(const PriorNetwork& network, const CodePriorConfig& config,
                          const CodeSampler& sampler, const at::Tensor& known) {
  const int64_t frame = network.grid()[1] * network.grid()[2];
  PriorNetwork::Cache cache = sampler.cache();
  const at::Tensor history = at::cat({sampler.begin(), sampler.embed(known, 0)}, 1);
  sampler.logits(history, network.frame_mask(history.size(1)), &cache, true);
  std::vector<at::Tensor> all = {known};
  for (int64_t position = known.size(1); position < network.positions(); position += frame) {
    const auto first_round = static_cast<uint32_t>(position / frame * config.rounds());
    const at::Tensor open = at::full({known.size(0), frame}, network.mask(), known.options());
    all.push_back(sampler.fill_in(open, first_round, [&](const at::Tensor& ids) {
      return sampler.logits(sampler.embed(ids, position), {}, &cache, false);
    }));
    sampler.logits(sampler.embed(all.back(), position), {}, &cache, true);
  }
  return at::cat(all, 1);
}

}  // namespace

at::Tensor without_smoothing(const at::Tensor& logits, double smoothing) {
  if (smoothing == 0) return logits;
  const double spread = smoothing / static_cast<double>(logits.size(-1));
  return (logits.softmax(-1) - spread).clamp_min(0).log();
}

at::Tensor draw_codes(const at::Tensor& logits, const at::Tensor& uniform,
                      const CodePriorConfig& config) {
  at::Tensor scaled = logits / config.temperature();
  if (config.top_k() > 0 && config.top_k() < logits.size(-1)) {
    const at::Tensor least = std::get<0>(scaled.topk(config.top_k(), -1)).slice(-1, -1);
    scaled = scaled.masked_fill(scaled < least, kNever);
  }
  at::Tensor share = scaled.softmax(-1).to(at::kDouble);
  if (config.top_p() < 1) {
    // Drops a code if the more probable ones reach top_p.
    const auto [sorted, order] = share.sort(-1, /*descending=*/true);
    const at::Tensor kept = sorted.masked_fill(sorted.cumsum(-1) - sorted >= config.top_p(), 0);
    share = at::zeros_like(share).scatter(-1, order, kept);
  }
  const at::Tensor below = share.cumsum(-1);
  const at::Tensor aim = uniform.unsqueeze(-1).to(at::kDouble) * below.slice(-1, -1);
  return (below <= aim).sum(-1).clamp_max(logits.size(-1) - 1);
}

int64_t open_after_round(int64_t total, int64_t open, int64_t round, int64_t rounds) {
  if (round + 1 >= rounds) return 0;
  const double part = static_cast<double>(round + 1) / static_cast<double>(rounds);
  const auto planned = static_cast<int64_t>(
      std::floor(static_cast<double>(total) * std::cos(part * std::numbers::pi / 2)));
  return std::max<int64_t>(1, std::min(open - 1, planned));
}

at::Tensor generate_codes(const PriorNetwork& network, const CodePriorConfig& config,
                          const at::Tensor& labels_B, const at::Tensor& known, const Clips& key,
                          uint32_t window) {
  const CodeSampler sampler(network, config, labels_B, key, window);
  const at::Tensor ids =
      known.defined() ? known.flatten(1) : labels_B.new_empty({labels_B.size(0), 0});
  const auto& grid = network.grid();
  const auto as_grid = [&](const at::Tensor& flat) {
    return flat.view({-1, grid[0], grid[1], grid[2]});
  };
  switch (config.kind()) {
    case CodePriorConfig::AUTOREGRESSIVE:
      return as_grid(one_by_one(network, config, sampler, ids));
    case CodePriorConfig::MASKED:
      return as_grid(all_at_once(network, sampler, ids));
    case CodePriorConfig::FRAME_MASKED:
      return as_grid(frame_by_frame(network, config, sampler, ids));
  }
  return {};
}

}  // namespace lf
