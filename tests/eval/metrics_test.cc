#include "eval/metrics.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "eval/pixel_extractor.h"
#include "eval/report.h"
#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

// Says what an extractor says of itself; nothing is extracted.
class NamedExtractor : public Extractor {
 public:
  NamedExtractor(std::string name, std::vector<ExtractorLayer> layers, int64_t frames)
      : name_(std::move(name)), layers_(std::move(layers)), frames_(frames) {}
  std::string name() const override { return name_; }
  std::string hash() const override { return "0123456789abcdef"; }
  std::vector<ExtractorLayer> layers() const override { return layers_; }
  int64_t frames() const override { return frames_; }
  std::vector<at::Tensor> features(const at::Tensor&, const std::vector<std::string>&) override {
    return {};
  }

 private:
  std::string name_;
  std::vector<ExtractorLayer> layers_;
  int64_t frames_;
};

NamedExtractor inception(bool whole) {
  std::vector<ExtractorLayer> layers = {{"64", 64}, {"192", 192}, {"768", 768}};
  if (whole) {
    for (const ExtractorLayer& layer : {ExtractorLayer{"2048", 2048},
                                        {"spatial", 2023},
                                        {"logits", 1008},
                                        {"logits_unbiased", 1008}}) {
      layers.push_back(layer);
    }
  }
  return {"inception", layers, 1};
}

FeatureSet set_of(const at::Tensor& rows, const std::string& name) {
  FeatureSet set{name, rows.size(0), {}, rows, {}};
  set.moments.add(rows);
  return set;
}

std::string refusal(const std::string& name, const Extractor* extractor, int64_t frames = 1) {
  return error_of(Code::kUsage, [&] { choose_metrics({name}, extractor, frames); });
}

TEST(Metrics, FidIsInceptionsLastFeaturesAndNothingElse) {
  const NamedExtractor whole = inception(true), part = inception(false);
  EXPECT_EQ(choose_metrics({"fid"}, &whole, 1)[0].layer, "2048");
  EXPECT_EQ(choose_metrics({"sfid"}, &whole, 1)[0].layer, "spatial");
  EXPECT_EQ(choose_metrics({"kid"}, &whole, 1)[0].layer, "2048");
  EXPECT_EQ(choose_metrics({"inception_score"}, &whole, 1)[0].layer, "logits_unbiased");
  EXPECT_EQ(choose_metrics({"fid768"}, &part, 1)[0].layer, "768");
  EXPECT_EQ(choose_metrics({"precision"}, &part, 1)[0].layer, "768");
  EXPECT_TRUE(contains(refusal("fid", &part), "2048"));
  EXPECT_TRUE(contains(refusal("inception_score", &part), "logits"));
  const NamedExtractor own("own", {{"128", 128}, {"logits", 10}}, 1);
  EXPECT_TRUE(contains(refusal("fid", &own), "fd_own"));
  EXPECT_EQ(choose_metrics({"fd_own"}, &own, 1)[0].layer, "128");
  EXPECT_EQ(choose_metrics({"inception_score"}, &own, 1)[0].layer, "logits");
  EXPECT_TRUE(contains(refusal("fd_pixels", &own), "fd_own"));
  EXPECT_TRUE(contains(refusal("fd_inception", &whole), "fd_inception"));
  EXPECT_TRUE(contains(refusal("frechett", nullptr), "frechet"));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [] {
                                  choose_metrics({"psnr", "psnr"}, nullptr, 1);
                                }),
                       "twice"));
}

// FVD refuses fewer than 9 frames; a proxy by another extractor has its own name.
TEST(Metrics, FvdRefusesClipsShorterThan9Frames) {
  const NamedExtractor i3d("i3d", {{"logits", 400}}, 9);
  const std::string message = refusal("fvd", &i3d, 8);
  EXPECT_TRUE(contains(message, "clips have 8 frames")) << message;
  EXPECT_TRUE(contains(message, "at least 9")) << message;
  EXPECT_TRUE(contains(message, "fvd_pad16")) << message;
  EXPECT_EQ(choose_metrics({"fvd"}, &i3d, 9)[0].layer, "logits");
  const ChosenMetric padded = choose_metrics({"fvd_pad16"}, &i3d, 8)[0];
  EXPECT_EQ(padded.name, "fvd_pad16");
  EXPECT_EQ(padded.pad_to, 16);
  EXPECT_TRUE(contains(refusal("fvd_pad8", &i3d, 4), "at least 9"));
  EXPECT_TRUE(contains(refusal("fvd_pad16", &i3d, 16), "nothing to pad"));
  EXPECT_TRUE(contains(refusal("fid", &i3d, 16), "inception"));
  EXPECT_TRUE(contains(refusal("kid", &i3d, 16), "single frames"));
  const NamedExtractor own("own", {{"32", 32}}, 4);
  EXPECT_EQ(choose_metrics({"fvd_own"}, &own, 4)[0].layer, "32");
  EXPECT_TRUE(contains(refusal("fd_own", &own, 4), "clips"));
}

TEST(Metrics, OneSampleIsRefused) {
  const ChosenMetric metric = choose_metrics({"frechet"}, nullptr, 1)[0];
  const FeatureSet good = set_of(normal_rows(9, 3, 1), "good"),
                   one = set_of(normal_rows(1, 3, 1), "one");
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { compute_of_sets(metric, good, one, {}); }),
                       "1 sample of one"));
}

TEST(Metrics, ZeroVarianceIsNamed) {
  const ChosenMetric metric = choose_metrics({"frechet"}, nullptr, 1)[0];
  const FeatureSet good = set_of(normal_rows(9, 3, 1), "good");
  for (const double value : {0.0, 0.1, 12345.678}) {
    const FeatureSet flat = set_of(at::zeros({7, 3}, at::kDouble) + value, "flat");
    const std::string message =
        error_of(Code::kData, [&] { compute_of_sets(metric, good, flat, {}); });
    EXPECT_TRUE(contains(message, "all 7 samples of flat")) << message;
    EXPECT_TRUE(contains(message, "zero variance")) << message;
  }
}

TEST(Metrics, FewerSamplesThanNumbersAreLabelled) {
  const ChosenMetric metric = choose_metrics({"frechet"}, nullptr, 1)[0];
  const FeatureSet few = set_of(normal_rows(9, 12, 1), "few"),
                   many = set_of(normal_rows(99, 12, 2), "many");
  EXPECT_EQ(compute_of_sets(metric, few, many, {}).more.at(0).first, "few_samples");
  EXPECT_TRUE(compute_of_sets(metric, many, many, {}).more.empty());
}

TEST(Metrics, StatisticsAloneDoNotMakeAKernelDistance) {
  FeatureSet statistics = set_of(normal_rows(9, 3, 1), "stats.npz");
  statistics.features_ND = at::Tensor();
  const FeatureSet good = set_of(normal_rows(9, 3, 2), "good");
  const ChosenMetric kid = choose_metrics({"kid"}, nullptr, 1)[0];
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { compute_of_sets(kid, statistics, good, {}); }),
                       "of stats.npz"));
}

TEST(Metrics, EveryRowHasTheFunctionItNeeds) {
  for (const Metric& row : metric_table()) {
    EXPECT_EQ(row.of_pairs != nullptr, row.needs == Evidence::kPairs) << row.name;
    EXPECT_EQ(row.of_codes != nullptr, row.needs == Evidence::kCodes) << row.name;
    const bool sets = row.needs == Evidence::kMoments || row.needs == Evidence::kFeatures ||
                      row.needs == Evidence::kScores;
    EXPECT_EQ(row.of_sets != nullptr, sets) << row.name;
  }
}

// The mean difference in grey levels, in place of a network.
class GreyDistance : public PairDistance {
 public:
  std::string name() const override { return "grey"; }
  std::string hash() const override { return "0"; }
  at::Tensor distance(const at::Tensor& a, const at::Tensor& b) const override {
    return (a.to(at::kFloat) - b.to(at::kFloat)).abs().mean({1, 2, 3});
  }
};

TEST(Metrics, LooksAreComparedFrameByFrameByTheNetworkGiven) {
  const ChosenMetric lpips = choose_metrics({"lpips"}, nullptr, 2)[0];
  const at::Tensor x = at::zeros({3, 2, 4, 4, 3}, at::kDouble);
  at::Tensor y = x.clone();
  y[1][1].fill_(0.2);  // 51 of 255
  const GreyDistance grey;
  const at::Tensor values_NT = compute_of_pairs(lpips, x, y, &grey);
  EXPECT_NEAR(values_NT[1][1].item<double>(), 51, 1e-6);
  EXPECT_NEAR(values_NT.sum().item<double>(), 51, 1e-6);
  EXPECT_TRUE(
      contains(error_of(Code::kUsage, [&] { compute_of_pairs(lpips, x, y, nullptr); }), "--lpips"));
}

TEST(Metrics, PixelsAreMeanColoursOfFields) {
  const std::unique_ptr<Extractor> pixels = make_pixel_extractor(3);
  at::Tensor clips = at::zeros({2, 3, 8, 8, 3}, at::kByte);
  clips[1][2].fill_(255);
  const at::Tensor features = pixels->features(clips, {"pixels"})[0];
  EXPECT_EQ(features.sizes(), (std::vector<int64_t>{2, 48}));
  EXPECT_EQ(features[0].abs().max().item<float>(), 0);
  EXPECT_EQ(features[1].min().item<float>(), 1);
}

TEST(Report, SaysWhatIsKnownAndNullWhatIsNot) {
  Result result;
  result.metric = "psnr";
  result.value = {30, 2, {{"last_frame", 40}}, {20, 40}};
  EXPECT_EQ(results_json({result}),
            "{\"psnr\":{\"value\":30,\"n\":2,\"extractor\":null,\"preprocessing\":null,"
            "\"reference\":null,\"seed\":null,\"last_frame\":40,\"per_frame\":[20,40]}}");
}

}  // namespace
}  // namespace lf
