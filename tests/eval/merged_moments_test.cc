// What every rank measured, merged on rank 0: the same bits for any number of ranks.
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include "eval/frechet.h"
#include "eval/moments.h"
#include "run/chunks.h"
#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

constexpr int64_t kDim = 24;

Moments of_chunk(const Chunks& chunks, int64_t chunk, double offset) {
  Moments moments;
  moments.add(mixed_rows(chunks.length(chunk), kDim, 100 + static_cast<uint64_t>(chunk)) + offset);
  return moments;
}

Moments of_one_process(const Chunks& chunks, double offset) {
  MomentsTree tree;
  for (int64_t chunk = 0; chunk < chunks.number(); ++chunk) {
    tree.add(chunk, of_chunk(chunks, chunk, offset));
  }
  return tree.merged();
}

Moments of_all_ranks(const Chunks& chunks, double offset) {
  World& world = World::join();
  MomentsTree tree;
  for (int64_t chunk = chunks.first(world.rank(), world.size());
       chunk < chunks.first(world.rank() + 1, world.size()); ++chunk) {
    tree.add(chunk, of_chunk(chunks, chunk, offset));
  }
  return tree.gather(world);
}

// Any number of processes gives the same values, with uneven shards and an empty rank.
TEST(Moments, AnyNumberOfRanksGivesTheSameBits) {
  World& world = World::join();
  // The last chunk is short; 3 chunks leave a rank of 4 empty, 1 chunk all but rank 0.
  for (const Chunks chunks : {Chunks{701, 64}, Chunks{70, 32}, Chunks{20, 32}}) {
    for (const double offset : {0.0, 1e4}) {
      const Moments alone = of_one_process(chunks, offset);
      const Moments together = of_all_ranks(chunks, offset);
      EXPECT_EQ(together.count(), world.is_root() ? chunks.count : 0);
      if (!world.is_root()) continue;
      EXPECT_TRUE(at::equal(together.mean(), alone.mean()));
      EXPECT_TRUE(at::equal(together.covariance(), alone.covariance()));
      const Moments reference = of_one_process({500, 50}, offset + 0.5);
      EXPECT_EQ(frechet_distance(reference, together), frechet_distance(reference, alone));
    }
  }
}

TEST(Moments, RowsOfAllRanksStandInOrder) {
  World& world = World::join();
  const Chunks chunks{45, 10};
  std::vector<at::Tensor> own, all;
  for (int64_t chunk = 0; chunk < chunks.number(); ++chunk) {
    const at::Tensor rows = normal_rows(chunks.length(chunk), 3, static_cast<uint64_t>(chunk));
    all.push_back(rows);
    if (chunk >= chunks.first(world.rank(), world.size()) &&
        chunk < chunks.first(world.rank() + 1, world.size())) {
      own.push_back(rows);
    }
  }
  const at::Tensor gathered = gather_rows(world, own);
  EXPECT_EQ(gathered.defined(), world.is_root());
  if (world.is_root()) {
    EXPECT_TRUE(at::equal(gathered, at::cat(all)));
  }
}

}  // namespace
}  // namespace lf
