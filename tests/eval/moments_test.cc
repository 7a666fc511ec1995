#include "eval/moments.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <limits>

#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// The definition, without blocks and merges.
at::Tensor covariance_of(const at::Tensor& rows) {
  const at::Tensor centred = rows - rows.mean(0);
  return at::matmul(centred.t(), centred) / static_cast<double>(rows.size(0) - 1);
}

// Moments merged of three parts are those of a single pass.
TEST(Moments, MergedThreeWaysEqualASinglePass) {
  const at::Tensor rows = mixed_rows(700, 20, 3);
  Moments merged = of(rows.slice(0, 0, 1));
  merged.merge(of(rows.slice(0, 1, 450)));
  merged.merge(Moments());
  merged.merge(of(rows.slice(0, 450)));
  EXPECT_EQ(merged.count(), 700);
  EXPECT_LT(largest_difference(merged.mean(), rows.mean(0)), 1e-13);
  EXPECT_LT(largest_difference(merged.covariance(), covariance_of(rows)), 1e-11);
  EXPECT_LT(largest_difference(of(rows).covariance(), covariance_of(rows)), 1e-11);
}

TEST(Moments, StripsMakeTheWholeCovariance) {
  const at::Tensor rows = normal_rows(40, 1100, 5);  // more columns than two strips
  Moments moments = of(rows.slice(0, 0, 17));
  moments.add(rows.slice(0, 17));
  EXPECT_LT(largest_difference(moments.covariance(), covariance_of(rows)), 1e-12);
}

TEST(Moments, OffsetOf10000DoesNotBreakThem) {
  const at::Tensor rows = mixed_rows(3000, 16, 4);
  Moments moments;
  for (int64_t from = 0; from < 3000; from += 125)
    moments.add(rows.slice(0, from, from + 125) + 1e4);
  EXPECT_LT(largest_difference(moments.covariance(), covariance_of(rows)),
            1e-10 * covariance_of(rows).abs().max().item<double>());
}

TEST(Moments, TreeGivesEqualBitsInAnyOrder) {
  const at::Tensor rows = mixed_rows(11 * 30, 12, 6);
  std::vector<int64_t> order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  Moments first;
  for (int trial = 0; trial < 20; ++trial) {
    MomentsTree tree;
    for (const int64_t chunk : order)
      tree.add(chunk, of(rows.slice(0, chunk * 30, chunk * 30 + 30)));
    const Moments merged = tree.merged();
    if (trial == 0) first = merged;
    EXPECT_EQ(merged.count(), 330);
    EXPECT_TRUE(at::equal(merged.covariance(), first.covariance()));
    EXPECT_TRUE(at::equal(merged.mean(), first.mean()));
    std::next_permutation(order.begin(), order.end());
    std::rotate(order.begin(), order.begin() + 4, order.end());
  }
  EXPECT_LT(largest_difference(first.covariance(), covariance_of(rows)), 1e-11);
}

TEST(Moments, PackedAndUnpackedAreEqual) {
  const Moments moments = of(mixed_rows(50, 7, 8));
  const Moments again = Moments::unpack(moments.pack());
  EXPECT_EQ(again.count(), 50);
  EXPECT_TRUE(at::equal(again.mean(), moments.mean()));
  EXPECT_TRUE(at::equal(again.covariance(), moments.covariance()));
  EXPECT_EQ(Moments::unpack(Moments().pack()).count(), 0);
}

TEST(Moments, NotFiniteFeaturesAreNamed) {
  for (const double wrong :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    at::Tensor rows = normal_rows(5, 3, 1);
    rows[3][1] = wrong;
    EXPECT_TRUE(contains(error_of(Code::kData, [&] { of(rows); }), "not finite"));
  }
}

TEST(Moments, OneSampleHasNoCovariance) {
  const std::string message = error_of(Code::kUsage, [] { of(normal_rows(1, 3, 1)).covariance(); });
  EXPECT_TRUE(contains(message, "at least 2 samples")) << message;
}

}  // namespace
}  // namespace lf
