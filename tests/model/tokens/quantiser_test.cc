// Quantisers and their straight-through gradients.
#include "model/tokens/quantiser.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

QuantiserConfig ema(int codes, int dim, bool cosine) {
  QuantiserConfig config;
  config.mutable_ema()->set_codes(codes);
  config.mutable_ema()->set_dim(dim);
  config.mutable_ema()->set_cosine(cosine);
  return config;
}

BatchPlan plan_of(int64_t clips, int64_t parts = 1, SumOverRanks sum = {}) {
  return {clips, parts, std::move(sum)};
}

Clips key_of(int64_t clips, int64_t first = 0) { return {at::zeros({clips, 0}), {}, 5, first}; }

// A quantiser with the table of its state.
struct Owned {
  explicit Owned(const QuantiserConfig& config, const BatchPlan& plan)
      : table(1, at::kCPU, {}), quantiser(make_quantiser(config, Scope(table), plan)) {}
  at::Tensor codebook() const {
    const auto& buffers = table.buffers();
    return buffers.front().name == "codebook" ? buffers.front().tensor
                                              : named(table.weights(), "codebook");
  }
  ParameterTable table;
  std::unique_ptr<Quantiser> quantiser;
};

// Vectors around eight centres.
at::Tensor clusters(int64_t clips, int64_t tokens, int64_t dim, int64_t salt) {
  const at::Tensor centres = noise({8, dim}, 11) * 2;
  const at::Tensor which =
      ((noise({clips, tokens}, static_cast<uint64_t>(salt)) + 1) * 4).to(at::kLong).clamp(0, 7);
  return centres.index_select(0, which.flatten()).view({clips, tokens, dim}) +
         0.02 * noise({clips, tokens, dim}, static_cast<uint64_t>(salt) + 1);
}

TEST(Codebook, KMeansFindsClustersInTheFirstBatch) {
  for (const bool cosine : {true, false}) {
    const Owned owned(ema(32, 4, cosine), plan_of(16));
    const at::Tensor z = clusters(16, 10, 4, 20);
    const Quantised q = owned.quantiser->quantise(z, key_of(16), true);
    EXPECT_LT(q.loss.item<double>(), 0.002) << "cosine " << cosine;
    // Ids are in range, of the nearest code, and consistent with lookup().
    EXPECT_GE(q.ids.min().item<int64_t>(), 0);
    EXPECT_LT(q.ids.max().item<int64_t>(), 32);
    EXPECT_TRUE(at::allclose(owned.quantiser->lookup(q.ids), q.z, 1e-5, 1e-6));
  }
}

TEST(Codebook, IdsAreOfTheNearestCode) {
  const Owned owned(ema(16, 4, false), plan_of(4));
  const at::Tensor z = noise({4, 6, 4}, 31);
  const Quantised q = owned.quantiser->quantise(z, key_of(4), false);
  const at::Tensor gaps = (z.unsqueeze(2) - owned.codebook()).square().sum(-1);
  EXPECT_TRUE(at::equal(q.ids, gaps.argmin(2)));
}

TEST(Codebook, RunningMeansFollowTheSpecifiedUpdate) {
  QuantiserConfig config = ema(3, 2, false);
  config.mutable_ema()->set_half_life_images(1);  // half of the old stays after one clip
  config.mutable_ema()->set_revive(0);
  const Owned owned(config, plan_of(1));
  const auto& buffers = owned.table.buffers();
  const at::Tensor codebook = named(buffers, "codebook"), sums = named(buffers, "sums");
  codebook.copy_(at::stack({at::full({2}, -1.0), at::full({2}, 1.0), at::full({2}, 9.0)}));
  sums.copy_(at::cat({codebook * 4, at::full({3, 1}, 4.0)}, 1));
  named(buffers, "started").fill_(1);
  const at::Tensor z = at::stack({at::full({2}, 0.6), at::full({2}, 1.2)}).unsqueeze(0);
  owned.quantiser->quantise(z, key_of(1), true);
  owned.quantiser->after_update(1, at::ones({}));
  // Code 1: N = (4 + 2) / 2, M = (4 + 1.8) / 2 in each element.
  EXPECT_NEAR(sums[1][2].item<double>(), 3, 1e-6);
  EXPECT_NEAR(sums[1][0].item<double>(), 2.9, 1e-6);
  EXPECT_NEAR(codebook[1][0].item<double>(), 2.9 / 3, 1e-4);
  EXPECT_NEAR(codebook[0][0].item<double>(), -1, 1e-4);
  // A skipped step has no effect.
  const at::Tensor before = sums.clone();
  owned.quantiser->quantise(z * 5, key_of(1, 1), true);
  owned.quantiser->quantise(z, key_of(1, 2), true);
  owned.quantiser->after_update(1, at::ones({}));
  EXPECT_NEAR(sums[1][2].item<double>(), (before[1][2].item<double>() + 2) / 2, 1e-6);
}

TEST(Codebook, RecoversWhenAllCodesBeganEqual) {
  QuantiserConfig config = ema(64, 8, true);
  config.mutable_ema()->set_half_life_images(200);
  const Owned owned(config, plan_of(32));
  named(owned.table.buffers(), "started").fill_(1);
  owned.codebook().copy_(at::full({64, 8}, 0.35));
  at::Tensor ids;
  for (int64_t step = 0; step < 30; ++step) {
    const at::Tensor z = noise({32, 16, 8}, static_cast<uint64_t>(step));
    ids = owned.quantiser->quantise(z, key_of(32, step * 32), true).ids;
    owned.quantiser->after_update(32, at::ones({}));
  }
  const auto used = (at::bincount(ids.flatten(), {}, 64) > 0).sum().item<int64_t>();
  EXPECT_GT(used, 32);
}

TEST(Codebook, TwoRanksHaveTheCodebookOfOneWithTheJoinedBatch) {
  for (const bool cosine : {true, false}) {
    QuantiserConfig config = ema(32, 4, cosine);
    config.mutable_ema()->set_half_life_images(20);
    const auto train = [&](const Owned& owned, int64_t from, int64_t to) {
      for (int64_t step = 0; step < 5; ++step) {
        const at::Tensor z = noise({8, 6, 4}, 50 + static_cast<uint64_t>(step)).slice(0, from, to);
        owned.quantiser->quantise(z, key_of(to - from, step * 8 + from), true);
        owned.quantiser->after_update(8, at::ones({}));
      }
    };
    const Owned one(config, plan_of(8));
    train(one, 0, 8);
    at::Tensor found[2];
    as_two_ranks([&](int rank, const SumOverRanks& sum) {
      const Owned half(config, plan_of(8, 1, sum));
      train(half, rank * 4, rank * 4 + 4);
      found[rank] = half.codebook().clone();
    });
    EXPECT_TRUE(at::equal(found[0], found[1]));
    EXPECT_TRUE(at::allclose(found[0], one.codebook(), 1e-4, 1e-5)) << "cosine " << cosine;
    // A rank on its own ends elsewhere, so the test can fail.
    const Owned alone(config, plan_of(8));
    train(alone, 0, 4);
    EXPECT_FALSE(at::allclose(alone.codebook(), one.codebook(), 1e-2, 1e-2));
  }
}

TEST(Codebook, MicroBatchesAddUpToTheWholeBatch) {
  QuantiserConfig config = ema(8, 4, false);
  config.mutable_ema()->set_kmeans(0);
  config.mutable_ema()->set_revive(0);
  const Owned whole(config, plan_of(8)), parts(config, plan_of(8, 2));
  const at::Tensor z = noise({8, 6, 4}, 70);
  for (const Owned* owned : {&whole, &parts}) {
    named(owned->table.buffers(), "started").fill_(1);
    owned->codebook().copy_(noise({8, 4}, 71));
  }
  whole.quantiser->quantise(z, key_of(8), true);
  whole.quantiser->after_update(8, at::ones({}));
  for (int64_t from : {0, 4}) {
    parts.quantiser->quantise(z.slice(0, from, from + 4), key_of(4, from), true);
  }
  parts.quantiser->after_update(8, at::ones({}));
  EXPECT_TRUE(at::allclose(whole.codebook(), parts.codebook(), 1e-5, 1e-6));
}

TEST(Codebook, NonFiniteVectorsDoNotStartIt) {
  const Owned owned(ema(8, 4, true), plan_of(2));
  const at::Tensor before = owned.codebook().clone();
  owned.quantiser->quantise(at::full({2, 4, 4}, std::nan("")), key_of(2), true);
  EXPECT_TRUE(at::equal(owned.codebook(), before));
  EXPECT_EQ(named(owned.table.buffers(), "started").item<float>(), 0);
}

TEST(Quantiser, GradientsGoStraightThrough) {
  // The gradient at z is the gradient at the codes, here by finite differences.
  QuantiserConfig learnt;
  learnt.mutable_learnt()->set_codes(16);
  learnt.mutable_learnt()->set_dim(4);
  learnt.mutable_learnt()->set_kmeans(0);
  QuantiserConfig lfq;
  lfq.mutable_lfq()->set_bits(4);
  for (const QuantiserConfig& config : {ema(16, 4, false), learnt, lfq}) {
    const Owned owned(config, plan_of(2));
    const at::Tensor z = noise({2, 3, 4}, 80).requires_grad_();
    const auto after = [](const at::Tensor& x) { return (x.to(at::kDouble).sin() * x).sum(); };
    const Quantised q = owned.quantiser->quantise(z, key_of(2), false);
    after(q.z).backward();
    const at::Tensor codes = owned.quantiser->lookup(q.ids).detach().to(at::kDouble);
    for (const int64_t i : {0, 7, 23}) {
      at::Tensor up = codes.clone(), down = codes.clone();
      up.view(-1)[i] += 1e-4;
      down.view(-1)[i] -= 1e-4;
      EXPECT_NEAR(z.grad().view(-1)[i].item<double>(),
                  (after(up) - after(down)).item<double>() / 2e-4, 1e-4);
    }
  }
}

TEST(Quantiser, CommitmentAndCodebookLossesPullTheirOwnSide) {
  QuantiserConfig config;
  config.mutable_learnt()->set_codes(4);
  config.mutable_learnt()->set_dim(2);
  config.mutable_learnt()->set_commitment(0.25);
  config.mutable_learnt()->set_kmeans(0);
  const Owned owned(config, plan_of(1));
  const at::Tensor z = noise({1, 1, 2}, 90).requires_grad_();
  const Quantised q = owned.quantiser->quantise(z, key_of(1), false);
  q.loss.backward();
  const at::Tensor code = owned.quantiser->lookup(q.ids).detach();
  // Means over two elements: d/dz = 0.25 (z - e), d/de = (e - z).
  EXPECT_TRUE(at::allclose(z.grad(), 0.25 * (z - code).detach(), 1e-5, 1e-6));
  const at::Tensor pull = owned.codebook().grad()[q.ids.item<int64_t>()];
  EXPECT_TRUE(at::allclose(pull, (code - z).detach().view({2}), 1e-5, 1e-6));
}

TEST(Fsq, EveryCodeComesBackAndLevelsAreExact) {
  for (const std::vector<int>& levels :
       {std::vector<int>{8, 6, 5}, {7, 5}, {2, 3, 4}, {8, 5, 5, 5}}) {
    QuantiserConfig config;
    int64_t product = 1;
    for (const int level : levels) {
      config.mutable_fsq()->add_levels(level);
      product *= level;
    }
    const Owned owned(config, plan_of(1));
    ASSERT_EQ(owned.quantiser->codes(), product);
    const at::Tensor ids = at::arange(product, at::kLong).unsqueeze(0);
    const at::Tensor codes = owned.quantiser->lookup(ids);
    for (size_t d = 0; d < levels.size(); ++d) {
      const at::Tensor column = codes.select(2, static_cast<int64_t>(d)).flatten();
      EXPECT_EQ(std::get<0>(column.sort()).diff().count_nonzero().item<int64_t>() + 1, levels[d]);
      EXPECT_LE(column.abs().max().item<double>(), 1.0);
    }
    // Wide inputs reach every level, and quantised vectors round-trip.
    const at::Tensor z = noise({1, 20000, static_cast<int64_t>(levels.size())}, 95) * 6;
    const Quantised q = owned.quantiser->quantise(z, key_of(1), false);
    EXPECT_TRUE(at::allclose(owned.quantiser->lookup(q.ids), q.z, 0, 1e-5));
    for (size_t d = 0; d < levels.size(); ++d) {
      const at::Tensor column = q.z.select(2, static_cast<int64_t>(d)).flatten() * 100;
      EXPECT_EQ(std::get<0>(column.round().sort()).diff().count_nonzero().item<int64_t>() + 1,
                levels[d]);
    }
  }
}

TEST(Lfq, EveryCodeComesBack) {
  QuantiserConfig config;
  config.mutable_lfq()->set_bits(10);
  const Owned owned(config, plan_of(1));
  const at::Tensor ids = at::arange(1024, at::kLong).unsqueeze(0);
  const at::Tensor codes = owned.quantiser->lookup(ids);
  EXPECT_TRUE(at::equal(owned.quantiser->quantise(codes, key_of(1), false).ids, ids));
  EXPECT_EQ(codes[0][512][0].item<double>(), 1);  // the first number is the highest bit
  EXPECT_EQ(owned.quantiser->quantise(at::zeros({1, 1, 10}), key_of(1), false).ids.item<int64_t>(),
            0);  // the sign of 0 is minus
}

TEST(Lfq, EntropiesEqualTheSumOverAllCodes) {
  QuantiserConfig config;
  config.mutable_lfq()->set_bits(5);
  config.mutable_lfq()->set_entropy(1);
  config.mutable_lfq()->set_diversity(0.7);
  config.mutable_lfq()->set_sharpness(0.4);
  const Owned owned(config, plan_of(2));
  const at::Tensor z = noise({2, 9, 5}, 97);
  const at::Tensor all = owned.quantiser->lookup(at::arange(32, at::kLong));
  const at::Tensor p = (2 * 0.4 * z.view({18, 5}).matmul(all.t())).softmax(1);
  const at::Tensor mean = p.mean(0);
  const double expected =
      (-(p * p.log()).sum(1).mean() + 0.7 * (mean * mean.log()).sum()).item<double>();
  EXPECT_NEAR(owned.quantiser->quantise(z, key_of(2), false).loss.item<double>(), expected, 1e-5);
}

TEST(Lfq, EntropyLossEvensOutTheCodes) {
  QuantiserConfig config;
  config.mutable_lfq()->set_bits(3);
  config.mutable_lfq()->set_entropy(1);
  config.mutable_lfq()->set_sharpness(1);
  const Owned owned(config, plan_of(1));
  at::Tensor z = noise({1, 64, 3}, 98) * 0.3 + 0.5;  // nearly all on one side
  const auto most = [&] {
    const at::Tensor ids = owned.quantiser->quantise(z, key_of(1), false).ids;
    return at::bincount(ids.flatten(), {}, 8).max().item<int64_t>();
  };
  const int64_t before = most();
  for (int step = 0; step < 60; ++step) {
    z = z.detach().requires_grad_();
    owned.quantiser->quantise(z, key_of(1), false).loss.backward();
    z = z.detach() - 2 * z.grad();
  }
  EXPECT_EQ(before, 64);
  EXPECT_LT(most(), 24);
}

TEST(Lfq, TwoRanksHaveTheGradientOfOneWithTheJoinedBatch) {
  QuantiserConfig config;
  config.mutable_lfq()->set_bits(4);
  config.mutable_lfq()->set_sharpness(0.5);
  const at::Tensor all = noise({4, 5, 4}, 99);
  const auto gradient = [&](const at::Tensor& z, const BatchPlan& plan) {
    const Owned owned(config, plan);
    const at::Tensor given = z.clone().requires_grad_();
    owned.quantiser->quantise(given, key_of(z.size(0)), true).loss.backward();
    return given.grad();
  };
  const at::Tensor one = gradient(all, plan_of(4));
  at::Tensor halves[2];
  as_two_ranks([&](int rank, const SumOverRanks& sum) {
    halves[rank] = gradient(all.slice(0, rank * 2, rank * 2 + 2), plan_of(4, 1, sum)) / 2;
  });
  EXPECT_TRUE(at::allclose(at::cat({halves[0], halves[1]}), one, 1e-4, 1e-7));
}

}  // namespace
}  // namespace lf
