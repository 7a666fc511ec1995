// Priors over codes, on clips of which there are only four.
#include "model/tokens/code_prior.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <map>

#include "base/random.h"
#include "base/stop.h"
#include "model/tokens/prior_sampling.h"
#include "tests/error_of.h"
#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

constexpr ClipShape kShape = {3, 8, 8, 3};

Config tokenizer_config() {
  return config_of(
      {"model.vqvae={width: 8 multipliers: [1, 2, 2] blocks: 1 latent: 8 attention: 1 "
       "quantiser { fsq { levels: [5, 5] } } }"});
}

// An untrained tokenizer of 3 frames of 2x2 codes: any map to codes will do if it distinguishes
// clips. Small initial weights would give nearly all positions the same code.
std::unique_ptr<Tokenizer> tokenizer() {
  auto made = make_tokenizer(tokenizer_config(), kShape, at::kCPU);
  named(made->parameters().weights(), "quantiser.in.weight").detach().mul_(30);
  return made;
}

ExportedModel exported(const std::string& /*file*/) {
  return {tokenizer_config(), tokenizer()->parameters().weights()};
}

std::string prior(const std::string& more) {
  return "model.code_prior={tokenizer: 'somewhere' layers: 2 width: 48 heads: 2 " + more + "}";
}

std::unique_ptr<Model> make_prior(const Config& config, const ClipShape& shape = kShape) {
  return make_model(config, shape, at::kCPU, {}, exported);
}

// Four clips whose frames differ.
at::Tensor four_clips() { return noise({4, 3, 8, 8, 3}, 22); }

// Returns a model trained on the four clips, of classes 0 to 3, with a learning rate that falls to
// 0.
std::unique_ptr<Model> trained(const Config& config, int steps) {
  std::unique_ptr<Model> model = make_prior(config);
  Steps step(*model, config);
  for (int64_t i = 0; i < steps; ++i) {
    Clips clips = clips_of(four_clips().repeat({16, 1, 1, 1, 1}), i * 64);
    clips.labels_B = at::arange(64, at::kLong).remainder(4);
    step(clips, 1 - static_cast<double>(i) / steps);
  }
  return model;
}

// Which of the four clips each sample is; -1: none.
std::vector<int> kinds_of(const at::Tensor& made) {
  const at::Tensor known = tokenizer()->reconstruct(clips_of(four_clips()));
  std::vector<int> kinds;
  for (int64_t i = 0; i < made.size(0); ++i) {
    int kind = -1;
    for (int k = 0; k < 4; ++k) {
      if (at::allclose(made[i], known[k], 1e-3, 1e-4)) kind = k;
    }
    kinds.push_back(kind);
  }
  return kinds;
}

SampleRequest request_of(int64_t count, int64_t first = 0) {
  SampleRequest request;
  request.seed = 9;
  request.first = first;
  request.count = count;
  return request;
}

class EveryPrior : public ::testing::TestWithParam<const char*> {
 protected:
  Config config(const std::string& more = "") const {
    return config_of({prior(std::string("kind: ") + GetParam() + " " + more), "train.batch=32",
                      "train.optimizer.lr=0.003"});
  }
};

// The masked kinds need this: codes drawn in one round are independent of each other, so clips with
// many codes in common would mix.
TEST(FourClips, HaveFewCodesInCommon) {
  const at::Tensor ids = tokenizer()->encode(four_clips()).flatten(1);
  EXPECT_EQ(ids.sizes(), (std::vector<int64_t>{4, 12}));
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t k = 0; k < i; ++k)
      EXPECT_LE((ids[i] == ids[k]).sum().item<int64_t>(), 1) << i << k;
  }
}

// One training for all properties of a trained prior. The masked kinds fill in one code a round
// here, so that every draw is conditioned on the others; they train for more steps, as each covers
// only one of the many masks.
TEST_P(EveryPrior, LearnsTheFourClipsTheirClassesAndTheirBeginnings) {
  const std::map<std::string, int> steps = {
      {"AUTOREGRESSIVE", 400}, {"FRAME_MASKED", 800}, {"MASKED", 3000}};
  const char* masked = GetParam() == std::string("AUTOREGRESSIVE")
                           ? ""
                           : " label_smoothing: 0 rounds: 12 choice_temperature: 100";
  const auto model = trained(
      config_of({prior(str("kind: ", GetParam(),
                           " classes: 4 label_dropout: 0.5 guidance: 1.5 top_p: 0.85", masked)),
                 "train.optimizer.lr=0.002"}),
      steps.at(GetParam()));
  SampleRequest request = request_of(64);
  request.labels_B = at::full({64}, -1, at::kLong);  // of no class
  int64_t counts[4] = {};
  for (const int kind : kinds_of(model->sample(request))) {
    if (kind >= 0) ++counts[kind];
  }
  EXPECT_GT(counts[0] + counts[1] + counts[2] + counts[3], 64 * 0.95);
  for (const int64_t count : counts) EXPECT_GT(count, 0);

  request = request_of(32);
  request.labels_B = at::arange(32, at::kLong).remainder(4);
  int right = 0;
  const std::vector<int> kinds = kinds_of(model->sample(request));
  for (int i = 0; i < 32; ++i) right += kinds[static_cast<size_t>(i)] == i % 4;
  EXPECT_GE(right, 31);

  // The first frame determines the clip.
  request = request_of(4);
  request.given_BTHWC = four_clips().slice(1, 0, 1);
  request.labels_B = at::full({4}, -1, at::kLong);
  const at::Tensor made = model->sample(request);
  EXPECT_TRUE(at::equal(made.slice(1, 0, 1), request.given_BTHWC));
  const at::Tensor known = tokenizer()->reconstruct(clips_of(four_clips()));
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_TRUE(at::allclose(made[i].slice(0, 1), known[i].slice(0, 1), 1e-3, 1e-4)) << i;

  request.labels_B = at::full({4}, 4, at::kLong);
  EXPECT_THROW(model->sample(request), Error);
}

TEST_P(EveryPrior, ClipsDependOnSeedAndIndexOnly) {
  const auto model = make_prior(config());
  const at::Tensor all = model->sample(request_of(6));
  EXPECT_TRUE(at::equal(all, model->sample(request_of(6))));
  EXPECT_TRUE(at::allclose(all.slice(0, 4), model->sample(request_of(2, 4)), 1e-3, 1e-4));
  SampleRequest other = request_of(6);
  other.seed = 10;
  EXPECT_FALSE(at::allclose(all, model->sample(other), 1e-3, 1e-4));
  EXPECT_EQ(all.sizes(), (std::vector<int64_t>{6, 3, 8, 8, 3}));
  EXPECT_LE(all.abs().max().item<double>(), 1.0);
}

TEST_P(EveryPrior, VideosContinueBeyondTheWindow) {
  const auto model = make_prior(config("overlap_frames: 2"));
  SampleRequest request = request_of(2);
  request.given_BTHWC = four_clips().slice(0, 0, 2).slice(1, 0, 2);
  request.frames = 8;
  const at::Tensor made = model->sample(request);
  EXPECT_EQ(made.sizes(), (std::vector<int64_t>{2, 8, 8, 8, 3}));
  EXPECT_TRUE(at::equal(made.slice(1, 0, 2), request.given_BTHWC));
  EXPECT_FALSE(at::equal(made.slice(1, 6, 7), made.slice(1, 7, 8)));
  // The first window is that of a plain request.
  request.frames = 3;
  EXPECT_TRUE(at::equal(model->sample(request), made.slice(1, 0, 3)));
  EXPECT_THROW(make_prior(config("overlap_frames: 3"))->sample([&] {
    SampleRequest longer = request_of(1);
    longer.frames = 4;
    return longer;
  }()),
               Error);
}

TEST_P(EveryPrior, LossOfABatchIsTheMeanOfItsSlices) {
  const auto model = make_prior(config("classes: 4 label_dropout: 0.5"));
  Clips all = clips_of(four_clips(), 40);
  all.labels_B = at::arange(4, at::kLong);
  const double whole = model->loss(all, 0, true).total.item<double>();
  const double parts = (model->loss(all.slice(0, 1), 0, true).total +
                        3 * model->loss(all.slice(1, 4), 0, true).total)
                           .item<double>() /
                       4;
  EXPECT_NEAR(whole, parts, 1e-5);
  all.labels_B = at::full({4}, 4, at::kLong);
  EXPECT_THROW(model->loss(all, 0, true), Error);
}

TEST_P(EveryPrior, EveryWeightTakesPartInEveryStep) {
  const auto model = make_prior(config("classes: 4"));
  model->loss(clips_of(four_clips()), 0, true).total.backward();
  for (const NamedTensor& weight : model->parameters().weights())
    EXPECT_TRUE(weight.tensor.grad().defined()) << weight.name;
  for (const NamedTensor& buffer : model->parameters().buffers())
    EXPECT_EQ(buffer.name.rfind("tokenizer.", 0), 0U) << buffer.name;
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryPrior,
                         ::testing::Values("AUTOREGRESSIVE", "MASKED", "FRAME_MASKED"),
                         [](const auto& info) { return std::string(info.param); });

struct Network {
  explicit Network(CodePriorConfig::Kind kind) : table(6, at::kCPU, {}) {
    config.set_kind(kind);
    config.set_layers(3);
    config.set_width(32);
    config.set_heads(4);
    network =
        std::make_unique<PriorNetwork>(Scope(table), config, std::array<int64_t, 3>{3, 2, 4}, 11);
    // Weights of a size at which positions and masks matter.
    for (const NamedTensor& weight : table.weights()) {
      if (weight.tensor.dim() == 2) weight.tensor.detach().mul_(10);
    }
  }
  at::Tensor ids(int64_t clips) const {
    return ((noise({clips, 24}, 33) + 1) * 5.5).to(at::kLong).clamp(0, 10);
  }
  at::Tensor none(int64_t clips) const { return at::full({clips}, -1, at::kLong); }
  ParameterTable table;
  CodePriorConfig config;
  std::unique_ptr<PriorNetwork> network;
};

TEST(KvCache, GivesTheLogitsOfFullRecomputation) {
  const at::NoGradGuard no_grad;
  const Network own(CodePriorConfig::AUTOREGRESSIVE);
  const PriorNetwork& network = *own.network;
  const at::Tensor ids = own.ids(2);
  const at::Tensor tokens =
      at::cat({network.begin(own.none(2)), network.embed(ids.slice(1, 0, -1), 0)}, 1);
  const at::Tensor full = network.logits(tokens, network.causal_mask(24));
  PriorNetwork::Cache cache = network.cache(2);
  // Five at once, then one by one.
  at::Tensor found = network.logits(tokens.slice(1, 0, 5), network.causal_mask(5), &cache, true);
  for (int64_t place = 5; place < 24; ++place) {
    found =
        at::cat({found, network.logits(tokens.slice(1, place, place + 1), {}, &cache, true)}, 1);
  }
  EXPECT_TRUE(at::allclose(found, full, 1e-4, 1e-4));
  // No code affects those before it; the first affects the last.
  at::Tensor changed = tokens.clone();
  changed.slice(1, 9, 10).neg_();
  const at::Tensor other = network.logits(changed, network.causal_mask(24));
  EXPECT_TRUE(at::equal(other.slice(1, 0, 9), full.slice(1, 0, 9)));
  EXPECT_FALSE(at::allclose(other.slice(1, 23), full.slice(1, 23), 1e-3, 1e-3));
}

TEST(KvCache, HoldsWholeFramesOfTheBlockCausalNetwork) {
  const at::NoGradGuard no_grad;
  const Network own(CodePriorConfig::FRAME_MASKED);
  const PriorNetwork& network = *own.network;
  const at::Tensor ids = own.ids(2);
  const at::Tensor tokens = at::cat({network.begin(own.none(2)), network.embed(ids, 0)}, 1);
  const at::Tensor full = network.logits(tokens, network.frame_mask(25));
  PriorNetwork::Cache cache = network.cache(2);
  const at::Tensor history =
      network.logits(tokens.slice(1, 0, 9), network.frame_mask(9), &cache, true);
  EXPECT_TRUE(at::allclose(history, full.slice(1, 0, 9), 1e-4, 1e-4));
  // A call without append leaves the cache unchanged.
  network.logits(tokens.slice(1, 9, 17) * 2, {}, &cache, false);
  const at::Tensor second = network.logits(tokens.slice(1, 9, 17), {}, &cache, true);
  const at::Tensor third = network.logits(tokens.slice(1, 17, 25), {}, &cache, true);
  EXPECT_TRUE(at::allclose(at::cat({second, third}, 1), full.slice(1, 9), 1e-4, 1e-4));
}

TEST(MaskGit, OpenCodesFallAsTheFixturesSay) {
  const auto counts = [](int64_t total, int64_t rounds) {
    std::vector<int64_t> left;
    int64_t open = total;
    for (int64_t round = 0; round < rounds; ++round)
      left.push_back(open = open_after_round(total, open, round, rounds));
    return left;
  };
  EXPECT_EQ(counts(64, 8), (std::vector<int64_t>{62, 59, 53, 45, 35, 24, 12, 0}));
  EXPECT_EQ(counts(256, 12),
            (std::vector<int64_t>{253, 247, 236, 221, 203, 181, 155, 128, 97, 66, 33, 0}));
  EXPECT_EQ(counts(1, 8).front(), 1);  // at least one is left until the last round
  EXPECT_EQ(counts(4, 3), (std::vector<int64_t>{3, 2, 0}));
}

TEST(MaskGit, DrawsFromProbabilitiesWithoutLabelSmoothing) {
  const at::Tensor share =
      at::cat({at::full({1}, 0.7), at::full({1}, 0.3), at::full({1}, 0.0), at::full({1}, 0.0)});
  const at::Tensor smoothed = (0.8 * share + 0.2 / 4).log() + 3;  // logits have no fixed zero
  EXPECT_TRUE(at::allclose(without_smoothing(smoothed, 0.2).softmax(-1), share, 1e-5, 1e-6));
  EXPECT_EQ(without_smoothing(smoothed, 0.2).softmax(-1)[2].item<double>(), 0);
  EXPECT_TRUE(at::equal(without_smoothing(smoothed, 0), smoothed));
}

TEST(MaskGit, GivenCodesNeverChange) {
  const at::NoGradGuard no_grad;
  for (const auto kind :
       {CodePriorConfig::AUTOREGRESSIVE, CodePriorConfig::MASKED, CodePriorConfig::FRAME_MASKED}) {
    const Network own(kind);
    const at::Tensor known = own.ids(3).view({3, 3, 2, 4}).slice(1, 0, 2);
    const Clips key{at::zeros({3, 0}), {}, 4, 0};
    const at::Tensor made = generate_codes(*own.network, own.config, own.none(3), known, key, 0);
    EXPECT_TRUE(at::equal(made.slice(1, 0, 2), known));
    const Interruptible asked([] { return true; });
    error_of(Code::kInterrupted,
             [&] { generate_codes(*own.network, own.config, own.none(3), known, key, 0); });
    EXPECT_GE(made.min().item<int64_t>(), 0);
    EXPECT_LT(made.max().item<int64_t>(), 11);  // no mask is left
  }
}

TEST(DrawCodes, FollowsTheProbabilitiesAndItsLimits) {
  const at::Tensor share =
      at::cat({at::full({1}, 0.5), at::full({1}, 0.3), at::full({1}, 0.15), at::full({1}, 0.05)});
  const at::Tensor logits = share.log().expand({20000, 4});
  at::Tensor draws = at::zeros({20000});
  uniform({1, Purpose::kSampling, 0, 0, 0}, 0, 20000, draws.mutable_data_ptr<float>());
  const auto shares = [&](const CodePriorConfig& config) {
    const at::Tensor ids = draw_codes(logits, draws, config);
    std::vector<double> found;
    for (int64_t id = 0; id < 4; ++id)
      found.push_back((ids == id).to(at::kDouble).mean().item<double>());
    return found;
  };
  const auto expect = [&](const CodePriorConfig& config, const std::vector<double>& expected) {
    const std::vector<double> found = shares(config);
    for (size_t id = 0; id < 4; ++id) EXPECT_NEAR(found[id], expected[id], 0.015) << id;
  };
  CodePriorConfig config;
  expect(config, {0.5, 0.3, 0.15, 0.05});
  config.set_top_k(2);
  expect(config, {0.625, 0.375, 0, 0});
  EXPECT_EQ(shares(config)[2], 0);
  config.set_top_k(0);
  config.set_top_p(0.9);  // three are needed for it
  expect(config, {0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0});
  EXPECT_EQ(shares(config)[3], 0);
  config.set_top_p(1);
  config.set_temperature(0.5);
  const double sum = 0.25 + 0.09 + 0.0225 + 0.0025;
  expect(config, {0.25 / sum, 0.09 / sum, 0.0225 / sum, 0.0025 / sum});
}

TEST(CodePrior, TokenizersThatDoNotFitAreUsageErrors) {
  const auto refused = [](const std::string& set, const OpenExport& open, const ClipShape& shape) {
    try {
      make_model(config_of({set}), shape, at::kCPU, {}, open);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUsage);
      return std::string(error.what());
    }
    ADD_FAILURE() << set;
    return std::string();
  };
  EXPECT_NE(refused("model.code_prior={}", exported, kShape).find("lastframe export"),
            std::string::npos);
  EXPECT_NE(refused(prior(""), exported, {3, 8, 8, 1}).find("encoder.pixels.weight"),
            std::string::npos);
  EXPECT_NE(refused(
                prior(""),
                [](const std::string&) {
                  return ExportedModel{config_of({"model.autoencoder={}"}), {}};
                },
                kShape)
                .find("model.vqvae"),
            std::string::npos);
  EXPECT_NE(refused("model.code_prior={tokenizer: 'x' width: 50 heads: 4}", exported, kShape)
                .find("heads=4"),
            std::string::npos);
}

}  // namespace
}  // namespace lf
