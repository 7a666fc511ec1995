#include "comm/world.h"

#include <cstdlib>

#include "tests/error_of.h"

namespace lf {
namespace {

TEST(World, SizeIsWhatTheLauncherStarted) {
  World& world = World::join();
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(world.size(), launched == nullptr ? 1 : std::atoi(launched));
  EXPECT_EQ(&world, &World::join());
  EXPECT_TRUE(World::joined());
  EXPECT_EQ(world.local_size(), world.size());
  EXPECT_EQ(world.local_rank(), world.rank());
}

TEST(World, ReductionsAreExact) {
  World& world = World::join();
  const int64_t n = world.size(), rank = world.rank();
  EXPECT_EQ(world.sum(rank + (int64_t{1} << 40)), n * (n - 1) / 2 + (n << 40));
  EXPECT_EQ(world.min(rank - 5), -5);
  EXPECT_EQ(world.max(rank), n - 1);
  EXPECT_EQ(world.sum(0.5), 0.5 * static_cast<double>(n));
  EXPECT_EQ(world.max(-static_cast<double>(rank)), 0.0);
  world.barrier();
}

TEST(World, BytesOfAnySizeTravel) {
  World& world = World::join();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{7}, size_t{5000000}}) {
    const std::string from_root(size, 'r');
    EXPECT_EQ(world.broadcast(world.is_root() ? from_root : "ignored"), from_root);

    const std::string mine(size * static_cast<size_t>(world.rank()), 'm');
    const std::vector<std::string> all = world.gather(mine);
    ASSERT_EQ(all.size(), world.is_root() ? static_cast<size_t>(world.size()) : 0U);
    for (size_t rank = 0; rank < all.size(); ++rank) {
      EXPECT_EQ(all[rank], std::string(size * rank, 'm'));
    }
    const std::vector<std::string> everywhere = world.all_gather(str(size, " ", world.rank()));
    ASSERT_EQ(everywhere.size(), static_cast<size_t>(world.size()));
    for (int rank = 0; rank < world.size(); ++rank) {
      EXPECT_EQ(everywhere[static_cast<size_t>(rank)], str(size, " ", rank));
    }
  }
}

TEST(World, APartIsAWorldOfItsOwn) {
  World& world = World::join();
  const int last = world.size() - 1;
  const bool alone = world.rank() == last;
  World& part = world.part(alone ? 1 : 0);
  EXPECT_EQ(part.size(), alone ? 1 : last);
  EXPECT_EQ(part.rank(), alone ? 0 : world.rank());
  EXPECT_EQ(part.local_size(), world.local_size()) << "the parts share the machine";
  EXPECT_EQ(part.local_rank(), world.local_rank());
  EXPECT_TRUE(part.on_one_machine());
  // As often as they like, without the others.
  for (int i = 0; i < (alone ? 5 : 2); ++i) {
    EXPECT_EQ(part.sum(int64_t{1}), part.size());
    EXPECT_EQ(part.broadcast(part.is_root() ? str("from ", world.rank()) : ""),
              str("from ", alone ? last : 0));
  }
  EXPECT_EQ(world.sum(int64_t{1}), world.size());
}

TEST(World, AMessageWaitsUntilItIsTaken) {
  World& world = World::join();
  if (world.size() == 1) GTEST_SKIP() << "there is no other rank";
  const int last = world.size() - 1;
  const std::vector<std::string> sent = {"one", "", std::string(3000000, 'x'), "four"};
  const bool writes = world.is_root(), reads = world.rank() == last;
  for (const std::string& text : sent) {
    if (writes) world.post(last, text);
  }
  EXPECT_EQ(world.sum(int64_t{1}), world.size()) << "collectives work meanwhile";
  std::vector<std::string> got;
  bool all = false;
  while (!all) {
    if (reads) {
      if (std::optional<std::string> text = world.take(0)) got.push_back(std::move(*text));
    } else if (writes) {
      EXPECT_FALSE(world.take(last).has_value()) << "nobody wrote to rank 0";
    }
    all = world.max(static_cast<int64_t>(reads && got.size() < sent.size())) == 0;
  }
  if (reads) {
    EXPECT_EQ(got, sent);
    EXPECT_FALSE(world.take(0).has_value());
  }
  world.barrier();
}

TEST(World, AgreementNamesTheRanksThatDiffer) {
  World& world = World::join();
  world.agree("config", "batch: 64\nseed: 1\n");
  if (world.size() == 1) GTEST_SKIP() << "one rank always agrees";
  const int odd = world.size() - 1;
  const std::string text = str("batch: 64\nseed: ", world.rank() == odd ? 2 : 1, "\n");
  const std::string message = error_of(Code::kUsage, [&] { world.agree("config", text); });
  EXPECT_TRUE(contains(message, str("rank ", odd, " has another config than rank 0"))) << message;
  EXPECT_TRUE(contains(message, "'seed: 2' against 'seed: 1'")) << message;
}

TEST(World, DissentIsFromTheMajority) {
  EXPECT_TRUE(find_dissent({"a", "a", "a"}).ranks.empty());
  const Dissent dissent = find_dissent({"x", "a", "a", "y", "a"});
  EXPECT_EQ(dissent.ranks, (std::vector<int>{0, 3}));
  EXPECT_EQ(dissent.reference, 1);
  EXPECT_EQ(find_dissent({"a", "b"}).ranks, std::vector<int>{1});
  EXPECT_EQ(name_ranks({3}), "rank 3");
  EXPECT_EQ(name_ranks({0, 2, 5}), "ranks 0, 2 and 5");
  EXPECT_EQ(name_ranks({0, 1, 2, 3, 4, 5, 6, 7, 8}),
            "ranks 0, 1, 2, 3, 4, 5, 6, 7, ... (9 in all)");
}

}  // namespace
}  // namespace lf
