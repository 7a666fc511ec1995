#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/isa.h"

namespace lf {
namespace {

using Words = std::array<uint32_t, 4>;

// The known answers published with the generator (philox4x32, 10 rounds).
TEST(Random, PhiloxGivesItsKnownAnswers) {
  EXPECT_EQ(philox(0, {0, 0, 0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, {~0u, ~0u, ~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, AStreamIsPhiloxInItsDocumentedLayout) {
  const Stream stream{7, Purpose::kFlip, 0x123456789abcdef0, 11, 12};
  const Words key = philox(7, {static_cast<uint32_t>(Purpose::kFlip), 12, 0, 0x4c46});
  std::vector<uint32_t> bits(300);
  uniform_bits(stream, 0, bits.size(), bits.data());
  for (uint32_t e = 0; e < bits.size(); ++e) {
    const Words block = philox(key[0] | static_cast<uint64_t>(key[1]) << 32,
                               {16 * (e / 64) + e % 16, 0x9abcdef0, 0x12345678, 11});
    ASSERT_EQ(bits[e], block[(e / 16) % 4]) << e;
  }
}

TEST(Random, ChunksOfAStreamJoin) {
  const Stream stream{3, Purpose::kCorruption, 5, 6, 7};
  const uint64_t start = (uint64_t{1} << 34) - 150;  // across the change of key as well
  std::vector<float> whole(1000), parts(1000);
  normal(stream, start, whole.size(), whole.data());
  for (size_t at = 0, step = 1; at < parts.size(); step = step * 3 % 97 + 1) {
    const size_t count = std::min(step, parts.size() - at);
    normal(stream, start + at, count, parts.data() + at);
    at += count;
  }
  EXPECT_EQ(whole, parts);
}

TEST(Random, EveryWidthGivesTheSameBits) {
  std::set<uint32_t> sums;
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    std::vector<float> values(3 << 16);
    normal({9, Purpose::kDiffusionNoise, 1, 2}, 5, 1 << 16, values.data());
    uniform({9, Purpose::kDiffusionNoise, 1, 3}, 5, 1 << 16, values.data() + (1 << 16));
    uniform_bits({9, Purpose::kDiffusionNoise, 1, 3}, 5, 1 << 16,
                 reinterpret_cast<uint32_t*>(values.data() + (2 << 16)));
    sums.insert(crc32c(values.data(), values.size() * sizeof(float)));
  }
  EXPECT_EQ(sums, std::set<uint32_t>{2127900698u});
}

TEST(Random, StreamsDifferInEveryCoordinate) {
  const Stream base{1, Purpose::kOrder, 1, 1, 1};
  std::vector<Stream> streams(6, base);
  streams[1].seed = 2;
  streams[2].purpose = Purpose::kFlip;
  streams[3].a = uint64_t{1} << 32 | 1;
  streams[4].b = 2;
  streams[5].c = 2;
  std::set<uint64_t> firsts;
  for (const Stream& stream : streams) firsts.insert(random_below(stream, 0, ~uint64_t{0}));
  EXPECT_EQ(firsts.size(), streams.size());
}

TEST(Random, NormalsHaveTheMomentsAndTailsOfTheGaussian) {
  const size_t n = 1 << 22;
  std::vector<float> x(n);
  normal({11, Purpose::kDiffusionNoise, 0, 0}, 0, n, x.data());
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0;
  double beyond[6] = {};
  for (size_t i = 0; i < n; ++i) {
    const double v = x[i];
    m1 += v, m2 += v * v, m3 += v * v * v, m4 += v * v * v * v;
    lag += i >= 16 ? v * x[i - 16] : 0;  // the other normal of a pair
    for (int k = 1; k < 6; ++k) beyond[k] += std::abs(v) > k;
  }
  const double root = std::sqrt(static_cast<double>(n));
  EXPECT_NEAR(m1 / n, 0, 4 / root);
  EXPECT_NEAR(m2 / n, 1, 4 * std::sqrt(2.0) / root);
  EXPECT_NEAR(m3 / n, 0, 4 * std::sqrt(15.0) / root);
  EXPECT_NEAR(m4 / n, 3, 4 * std::sqrt(96.0) / root);
  EXPECT_NEAR(lag / n, 0, 4 / root);
  for (int k = 1; k < 6; ++k) {
    const double expected = n * std::erfc(k / std::sqrt(2.0));
    EXPECT_NEAR(beyond[k], expected, 4 * std::sqrt(expected) + 1) << k;
  }
  std::sort(x.begin(), x.end());
  double distance = 0;  // Kolmogorov and Smirnov's
  for (size_t i = 0; i < n; ++i) {
    const double cdf = 0.5 * std::erfc(-x[i] / std::sqrt(2.0));
    distance = std::max(distance, std::abs(cdf - (static_cast<double>(i) + 0.5) / n));
  }
  EXPECT_LT(distance * root, 1.95);  // one in a thousand would be worse
}

// Box and Muller in double from the same words.
TEST(Random, NormalsAreAccurate) {
  const Stream stream{1, Purpose::kDiffusionNoise, 2, 3};
  std::vector<uint32_t> words(1 << 16);
  std::vector<float> values(words.size());
  uniform_bits(stream, 0, words.size(), words.data());
  normal(stream, 0, words.size(), values.data());
  for (size_t e = 0; e < words.size(); ++e) {
    if ((e / 16) % 2 == 1) continue;
    const double u = (static_cast<double>(words[e] >> 1) + 0.5) * 0x1p-31;
    const uint32_t w = words[e + 16];
    const double turn =
        (w >> 30) + (static_cast<double>((w & 0x3fffffff) >> 6) + 0.5) * 0x1p-24 - 0.5;
    // A float near 1 has lost the last bits of u, which moves a small radius.
    const double r = std::sqrt(-2 * std::log(static_cast<double>(static_cast<float>(u))));
    EXPECT_NEAR(values[e], r * std::cos(M_PI_2 * turn), 2e-6);
    EXPECT_NEAR(values[e + 16], r * std::sin(M_PI_2 * turn), 2e-6);
  }
}

TEST(Random, UniformNumbersFillTheirRange) {
  std::vector<float> x(1 << 20);
  uniform({1, Purpose::kDropout, 0, 0}, 0, x.size(), x.data());
  std::vector<int> bins(64);
  for (const float v : x) {
    ASSERT_TRUE(v >= 0 && v < 1);
    ++bins[static_cast<size_t>(v * 64)];
  }
  double chi = 0;
  const double expected = static_cast<double>(x.size()) / 64;
  for (const int b : bins) chi += (b - expected) * (b - expected) / expected;
  EXPECT_LT(chi, 63 + 4 * std::sqrt(2.0 * 63));
}

TEST(Random, NumbersBelowABoundAreEvenlySpread) {
  int counts[7] = {};
  for (uint64_t i = 0; i < 70000; ++i) ++counts[random_below({5, Purpose::kSplit}, i, 7)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
  EXPECT_EQ(random_below({5, Purpose::kSplit}, 0, 1), 0u);
}

TEST(Permutation, IsABijectionForEverySize) {
  for (uint64_t n : {1,  2,   3,   4,   5,    6,    7,    8,    15,    16,    17,    63,    64,
                     65, 255, 256, 257, 1000, 4095, 4096, 4097, 65535, 65536, 65537, 100003}) {
    const Permutation permutation(7, 3, n);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t value = permutation(i);
      ASSERT_LT(value, n);
      ASSERT_FALSE(seen[value]) << n;
      seen[value] = true;
    }
  }
}

TEST(Permutation, HugeSizesStayInRangeAndApart) {
  for (const uint64_t n : {uint64_t{100'000'000'000}, (uint64_t{1} << 63) + 1, ~uint64_t{0}}) {
    const Permutation permutation(1, 2, n);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
      seen.insert(permutation(i));
      seen.insert(permutation(n - 1 - i));
    }
    EXPECT_EQ(seen.size(), 2000u);
    EXPECT_LT(*seen.rbegin(), n);
  }
}

TEST(Permutation, SeedAndEpochChangeTheOrder) {
  const uint64_t n = 1000;
  const Permutation a(1, 0, n), same(1, 0, n), epoch(1, 1, n), seed(2, 0, n);
  int fixed = 0, with_epoch = 0, with_seed = 0;
  for (uint64_t i = 0; i < n; ++i) {
    EXPECT_EQ(a(i), same(i));
    fixed += a(i) == i;
    with_epoch += a(i) == epoch(i);
    with_seed += a(i) == seed(i);
  }
  EXPECT_LT(fixed, 10);
  EXPECT_LT(with_epoch, 10);
  EXPECT_LT(with_seed, 10);
}

// Over many keys every element of a small permutation visits every place equally often.
TEST(Permutation, SmallOnesAreUnbiased) {
  int counts[5][5] = {};
  for (uint64_t epoch = 0; epoch < 10000; ++epoch) {
    const Permutation permutation(3, epoch, 5);
    for (uint64_t i = 0; i < 5; ++i) ++counts[i][permutation(i)];
  }
  for (const auto& row : counts) {
    for (const int count : row) EXPECT_NEAR(count, 2000, 250);
  }
}

TEST(Permutation, PositionsOutsideAreOurOwnBug) {
  EXPECT_THROW(Permutation(1, 0, 0), Error);
  EXPECT_THROW(Permutation(1, 0, 5)(5), Error);
}

}  // namespace
}  // namespace lf
