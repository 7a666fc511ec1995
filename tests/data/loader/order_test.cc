#include "data/loader/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/error.h"

namespace lf {
namespace {

std::vector<OrderEntry> entries(const Order& order, uint64_t first, uint64_t count) {
  std::vector<OrderEntry> out(count);
  order.fill(first, out);
  return out;
}

std::vector<uint64_t> clips(const Order& order, uint64_t first, uint64_t count) {
  std::vector<uint64_t> out;
  for (const OrderEntry& entry : entries(order, first, count)) out.push_back(entry.clip);
  return out;
}

TEST(Order, EveryEpochIsAPermutation) {
  for (const uint64_t n : {1, 2, 3, 7, 64, 100, 1000}) {
    const Order order(5, n, {});
    for (uint64_t epoch = 0; epoch < 4; ++epoch) {
      std::vector<uint64_t> seen = clips(order, epoch * n, n);
      std::sort(seen.begin(), seen.end());
      for (uint64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], i) << n << " clips, epoch " << epoch;
    }
  }
}

TEST(Order, EpochsAndSeedsDiffer) {
  const Order order(5, 1000, {});
  EXPECT_NE(clips(order, 0, 1000), clips(order, 1000, 1000));
  EXPECT_NE(clips(order, 0, 1000), clips(Order(6, 1000, {}), 0, 1000));
  EXPECT_EQ(clips(order, 0, 1000), clips(Order(5, 1000, {}), 0, 1000));
}

TEST(Order, AnyCutGivesTheSameEntries) {
  const Order order(3, 37, {3, 0.5, true});
  const std::vector<OrderEntry> whole = entries(order, 0, 200);
  for (uint64_t cut = 0; cut <= 200; ++cut) {
    std::vector<OrderEntry> parts = entries(order, 0, cut);
    const std::vector<OrderEntry> rest = entries(order, cut, 200 - cut);
    parts.insert(parts.end(), rest.begin(), rest.end());
    ASSERT_EQ(parts, whole) << "cut at " << cut;
  }
  for (uint64_t p = 0; p < 200; ++p) ASSERT_EQ(order.at(p), whole[p]);
}

// What the ranks read in one step, whatever their number and wherever the run was cut.
TEST(Order, UnionOverRanksIsTheSameForAnyNumberOfRanks) {
  constexpr uint64_t kBatch = 12;
  const Order order(11, 50, {1, 0.5, true});
  for (uint64_t position = 0; position < 20 * kBatch; position += 5) {
    const std::vector<OrderEntry> global = entries(order, position, kBatch);
    for (const int ranks : {1, 2, 3, 4, 6}) {
      std::vector<OrderEntry> joined;
      for (int rank = 0; rank < ranks; ++rank) {
        const RankSlice slice = slice_of_rank(kBatch, rank, ranks);
        EXPECT_EQ(slice.count, kBatch / static_cast<uint64_t>(ranks));
        const auto part = entries(order, position + slice.first, slice.count);
        joined.insert(joined.end(), part.begin(), part.end());
      }
      ASSERT_EQ(joined, global) << ranks << " ranks at " << position;
    }
  }
}

TEST(Order, UnevenSlicesAreRefused) {
  EXPECT_THROW(slice_of_rank(10, 0, 3), Error);
  EXPECT_THROW(slice_of_rank(0, 0, 1), Error);
  EXPECT_THROW(slice_of_rank(2, 0, 4), Error);
}

TEST(Order, ABatchMayStraddleEpochs) {
  const Order order(1, 10, {4, 0, true});
  const std::vector<OrderEntry> batch = entries(order, 8, 25);
  const std::vector<uint64_t> epochs = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2,
                                        2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3};
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_EQ(batch[i].epoch, epochs[i]);
    EXPECT_EQ(batch[i].draw, epochs[i] % 4);
  }
}

TEST(Order, DrawsAreTakenInTurnOrFresh) {
  const Order held(1, 10, {2, 0, true}), fresh(1, 10, {0, 0, true});
  EXPECT_EQ(held.at(35).draw, 1U);
  EXPECT_EQ(held.at(45).draw, 0U);
  EXPECT_EQ(fresh.at(35).draw, 3U);
  EXPECT_EQ(fresh.at(12345).draw, 1234U);
}

TEST(Order, FlipsFollowTheirProbability) {
  constexpr int kCount = 20000;
  for (const double p : {0.0, 0.25, 0.5, 1.0}) {
    const Order order(9, 100, {1, p, true});
    int flips = 0;
    for (const OrderEntry& entry : entries(order, 0, kCount)) flips += entry.flip ? 1 : 0;
    // Five standard deviations of a binomial; none at all for 0 and 1.
    const double tolerance = 5 * std::sqrt(kCount * p * (1 - p));
    EXPECT_NEAR(flips, kCount * p, tolerance) << p;
  }
}

TEST(Order, FlipsDoNotDependOnWhereABatchBegins) {
  const Order order(9, 1000, {1, 0.5, true});
  const uint64_t first = 3 * 65536 - 700;  // streams of flips are cut at multiples of 65,536
  const std::vector<OrderEntry> whole = entries(order, first, 1400);
  for (uint64_t i = 0; i < 1400; ++i) ASSERT_EQ(order.at(first + i), whole[i]);
}

TEST(Order, FlipsOfAClipChangeWithTheEpoch) {
  const Order order(9, 50, {1, 0.5, true});
  std::map<uint64_t, std::set<bool>> flips;
  for (const OrderEntry& entry : entries(order, 0, 50 * 30)) flips[entry.clip].insert(entry.flip);
  for (const auto& [clip, seen] : flips) EXPECT_EQ(seen.size(), 2U) << "clip " << clip;
}

TEST(Order, UnshuffledIsTheOrderOfTheStore) {
  EXPECT_EQ(clips(Order(9, 4, {1, 0, false}), 2, 5), (std::vector<uint64_t>{2, 3, 0, 1, 2}));
}

TEST(Order, SubstitutesAreDeterministicAndVaried) {
  const Order order(9, 1000, {});
  std::set<uint64_t> seen;
  for (uint64_t position = 0; position < 100; ++position) {
    for (uint32_t attempt = 0; attempt < 3; ++attempt) {
      const uint64_t clip = order.substitute(position, attempt);
      EXPECT_LT(clip, 1000U);
      EXPECT_EQ(clip, Order(9, 1000, {}).substitute(position, attempt));
      seen.insert(clip);
    }
  }
  EXPECT_GT(seen.size(), 200U);
}

TEST(Order, EmptyStoresAreRefused) { EXPECT_THROW(Order(1, 0, {}), Error); }

// Nothing is tabulated: a store of 1e15 clips costs what one of ten does.
TEST(Order, HugeStoresCostNothing) {
  constexpr uint64_t kClips = 1'000'000'000'000'000;
  const Order order(1, kClips, {});
  std::set<uint64_t> seen;
  for (const uint64_t clip : clips(order, kClips - 500, 1000)) {
    EXPECT_LT(clip, kClips);
    seen.insert(clip);
  }
  EXPECT_GT(seen.size(), 990U);
}

}  // namespace
}  // namespace lf
