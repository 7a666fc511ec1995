// The loader against a store in memory whose clips are formulas, so that every byte it delivers is
// known. Reading real shards is tested in tests/data/store.
#include "data/loader/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "tests/data/loader/formula_store_fixture.h"

namespace lf {
namespace {

LoaderConfig options(int threads, double flip = 0) {
  LoaderConfig config;
  config.set_threads(threads);
  config.set_prefetch(3);
  config.set_flip(flip);
  return config;
}

// Everything a batch holds, copied.
struct Copy {
  uint64_t batch_position, position;
  std::vector<uint8_t> frames;
  std::vector<OrderEntry> clips;
  std::vector<int64_t> labels;
  bool operator==(const Copy&) const = default;
};

Copy copy(const Batch& batch) {
  return {batch.batch_position,
          batch.position,
          {batch.frames, batch.frames + batch.layout.bytes},
          {batch.clips.begin(), batch.clips.end()},
          {batch.labels.begin(), batch.labels.end()}};
}

std::vector<Copy> run(Loader& loader, int steps) {
  std::vector<Copy> batches;
  for (int i = 0; i < steps; ++i) batches.push_back(copy(loader.next()));
  return batches;
}

// Byte i of clip k of a uint8 batch, mirrored back if it was mirrored.
uint8_t unflipped(const Batch& batch, size_t k, size_t i) {
  const ClipShape& shape = batch.layout.shape;
  const auto channels = static_cast<size_t>(shape.channels),
             width = static_cast<size_t>(shape.width);
  size_t x = i / channels % width;
  const size_t row = i / channels / width;
  if (batch.clips[k].flip) x = width - 1 - x;
  return batch.frames[k * shape.bytes() + (row * width + x) * channels + i % channels];
}

template <typename Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {Code::kOk, ""};
}

TEST(Loader, DeliversTheClipsOfTheOrder) {
  const auto store = std::make_shared<FormulaStore>(37, ClipShape{4, 3, 5, 3}, 1, 3);
  Loader loader(store, options(2, 0.5), {.seed = 7, .batch = 8});
  const Order order(7, 37, {3, 0.5, true});
  int flips = 0;
  for (uint64_t step = 0; step < 20; ++step) {
    const Batch batch = loader.next();
    ASSERT_EQ(batch.position, step * 8);
    for (size_t k = 0; k < 8; ++k) {
      const OrderEntry expected = order.at(batch.position + k);
      ASSERT_EQ(batch.clips[k], expected);
      ASSERT_EQ(batch.labels[k], static_cast<int64_t>(expected.clip % 10));
      flips += expected.flip ? 1 : 0;
      for (size_t i = 0; i < batch.layout.shape.bytes(); ++i) {
        ASSERT_EQ(unflipped(batch, k, i), pixel(expected.clip, expected.draw, i));
      }
    }
  }
  EXPECT_GT(flips, 40);
  EXPECT_LT(flips, 120);
}

TEST(Loader, AnyNumberOfThreadsGivesTheSameBytes) {
  const auto store = std::make_shared<FormulaStore>(100);
  const LoaderShare share{.seed = 1, .batch = 16};
  Loader none(store, options(0, 0.5), share), one(store, options(1, 0.5), share),
      four(store, options(4, 0.5), share);
  const std::vector<Copy> expected = run(none, 30);
  EXPECT_EQ(run(one, 30), expected);
  EXPECT_EQ(run(four, 30), expected);
}

TEST(Loader, RanksJoinedGiveTheGlobalBatch) {
  const auto store = std::make_shared<FormulaStore>(50);
  constexpr uint64_t kBatch = 12;
  Loader whole(store, options(0, 0.5), {.seed = 4, .batch = kBatch});
  const std::vector<Copy> expected = run(whole, 12);
  for (const int ranks : {1, 2, 3, 4, 6}) {
    for (const int cut : {0, 1, 5, 11}) {
      // Up to the cut on one rank, from there on `ranks`, as a restarted job would.
      std::vector<std::unique_ptr<Loader>> loaders;
      for (int rank = 0; rank < ranks; ++rank) {
        loaders.push_back(std::make_unique<Loader>(
            store, options(1, 0.5),
            LoaderShare{.seed = 4, .rank = rank, .ranks = ranks, .batch = kBatch}));
        loaders.back()->seek(static_cast<uint64_t>(cut) * kBatch);
      }
      for (size_t step = static_cast<size_t>(cut); step < 12; ++step) {
        Copy joined{step * kBatch, step * kBatch, {}, {}, {}};
        for (auto& loader : loaders) {
          const Copy part = copy(loader->next());
          EXPECT_EQ(part.batch_position, step * kBatch);
          joined.frames.insert(joined.frames.end(), part.frames.begin(), part.frames.end());
          joined.clips.insert(joined.clips.end(), part.clips.begin(), part.clips.end());
          joined.labels.insert(joined.labels.end(), part.labels.begin(), part.labels.end());
        }
        ASSERT_EQ(joined, expected[step]) << ranks << " ranks, cut " << cut << ", step " << step;
      }
    }
  }
}

TEST(Loader, SeekingEqualsRunning) {
  const auto store = std::make_shared<FormulaStore>(23);
  for (const int threads : {0, 1, 4}) {
    Loader loader(store, options(threads, 0.5), {.seed = 2, .batch = 5});
    const std::vector<Copy> expected = run(loader, 20);
    for (const size_t step : {7U, 0U, 19U, 3U, 12U}) {
      loader.seek(step * 5);
      EXPECT_EQ(loader.position(), step * 5);
      ASSERT_EQ(copy(loader.next()), expected[step]) << threads << " threads, step " << step;
      EXPECT_EQ(loader.position(), step * 5 + 5);
    }
  }
}

// A run may resume with another batch size, so a position need not be a multiple of it.
TEST(Loader, SeeksToPositionsInTheMiddleOfABatch) {
  const auto store = std::make_shared<FormulaStore>(23);
  Loader loader(store, options(2), {.seed = 2, .batch = 5});
  loader.seek(13);
  const Order order(2, 23, {});
  for (uint64_t p = 13; p < 100; p += 5) {
    const Batch batch = loader.next();
    ASSERT_EQ(batch.position, p);
    for (size_t k = 0; k < 5; ++k) ASSERT_EQ(batch.clips[k].clip, order.at(p + k).clip);
  }
}

TEST(Loader, InOrderIsTheOrderOfTheStore) {
  const auto store = std::make_shared<FormulaStore>(7);
  Loader loader(store, in_order(options(0, 1)), {.seed = 2, .batch = 5});
  uint64_t position = 0;
  for (int step = 0; step < 3; ++step) {
    const Batch batch = loader.next();
    for (const OrderEntry& entry : batch.clips) {
      EXPECT_EQ(entry.clip, position++ % 7);
      EXPECT_FALSE(entry.flip);
    }
  }
}

TEST(Loader, EveryEpochHoldsEveryClipOnce) {
  const auto store = std::make_shared<FormulaStore>(21);
  Loader loader(store, options(3), {.seed = 2, .batch = 6});
  std::vector<uint64_t> seen;
  for (int step = 0; step < 7; ++step) {  // 42 clips are two epochs; step 3 straddles them
    for (const OrderEntry& entry : loader.next().clips) seen.push_back(entry.clip);
  }
  for (const size_t begin : {0U, 21U}) {
    const std::set<uint64_t> epoch(seen.begin() + begin, seen.begin() + begin + 21);
    EXPECT_EQ(epoch.size(), 21U);
  }
}

TEST(Loader, ABatchMayBeLargerThanTheStore) {
  const auto store = std::make_shared<FormulaStore>(3);
  Loader loader(store, options(1), {.seed = 2, .batch = 10});
  const Batch batch = loader.next();
  std::vector<int> times(3);
  for (const OrderEntry& entry : batch.clips) ++times[entry.clip];
  EXPECT_EQ(*std::min_element(times.begin(), times.end()), 3);
}

TEST(Loader, Fp16FramesAreApartFromTheImages) {
  const ClipShape shape{3, 4, 6, 2};
  const auto store = std::make_shared<FormulaStore>(9, shape, 2);
  Loader loader(store, options(1, 0.5), {.seed = 3, .batch = 4});
  const BatchLayout& layout = loader.layout();
  EXPECT_EQ(layout.corrupted_bytes, 2U * 4 * 6 * 2 * 2);
  EXPECT_EQ(layout.clean_offset % 64, 0U);
  const size_t image = 4 * 6 * 2;
  bool flipped = false;
  for (int step = 0; step < 5; ++step) {
    const Batch batch = loader.next();
    for (size_t k = 0; k < 4; ++k) {
      const OrderEntry& entry = batch.clips[k];
      flipped = flipped || entry.flip;
      for (size_t i = 0; i < layout.corrupted_bytes; ++i) {
        size_t x = i / 4 % 6;  // a pixel is two channels of two bytes
        if (entry.flip) x = 5 - x;
        const size_t at = (i / 24 * 6 + x) * 4 + i % 4;
        ASSERT_EQ(batch.frames[k * layout.corrupted_stride + at], pixel(entry.clip, 0, i));
      }
      for (size_t i = 0; i < image; ++i) {
        size_t x = i / 2 % 6;
        if (entry.flip) x = 5 - x;
        const size_t at =
            layout.clean_offset + k * layout.clean_stride + (i / 12 * 6 + x) * 2 + i % 2;
        ASSERT_EQ(batch.frames[at], pixel(entry.clip, 0, layout.corrupted_bytes + i));
      }
    }
  }
  EXPECT_TRUE(flipped);
}

TEST(Loader, ASingleFrameIsThePlainImage) {
  const auto store = std::make_shared<FormulaStore>(9, ClipShape{1, 4, 6, 1});
  Loader loader(store, options(1), {.seed = 3, .batch = 2});
  const Batch batch = loader.next();
  EXPECT_EQ(batch.layout.corrupted_bytes, 0U);
  EXPECT_EQ(batch.layout.bytes, 2U * 24);
  EXPECT_EQ(batch.frames[24], pixel(batch.clips[1].clip, 0, 0));
}

TEST(Loader, SideColumnsComeWhereAsked) {
  const auto store = std::make_shared<FormulaStore>(40);
  LoaderConfig config = options(2);
  config.add_side("caption");
  config.add_side("where");
  config.add_side("number");
  Loader loader(store, config, {.seed = 3, .batch = 4});
  for (int step = 0; step < 15; ++step) {
    const Batch batch = loader.next();
    ASSERT_EQ(batch.side.size(), 3U);
    for (size_t k = 0; k < 4; ++k) {
      const uint64_t clip = batch.clips[k].clip;
      EXPECT_EQ(batch.side[0].texts[k], str("caption of ", clip));
      EXPECT_EQ(batch.side[1].floats[2 * k + 1], static_cast<float>(clip) / 2);
      EXPECT_EQ(batch.side[2].ints[k], static_cast<int64_t>(clip) * 3);
    }
  }
  config.add_side("captain");
  const Error error = error_of([&] { Loader(store, config, {.batch = 4}); });
  EXPECT_EQ(error.code(), Code::kUsage);
  EXPECT_NE(std::string(error.what()).find("did you mean 'caption'?"), std::string::npos)
      << error.what();
}

TEST(Loader, ADamagedClipEndsTheRunAtItsTurn) {
  const auto store = std::make_shared<FormulaStore>(40);
  const Order order(3, 40, {});
  store->bad = {order.at(17).clip};  // in the fifth batch of four
  for (const int threads : {0, 1, 4}) {
    Loader loader(store, options(threads), {.seed = 3, .batch = 4});
    EXPECT_EQ(run(loader, 4).size(), 4U);
    for (int again = 0; again < 2; ++again) {
      const Error error = error_of([&] { loader.next(); });
      EXPECT_EQ(error.code(), Code::kData);
      EXPECT_NE(std::string(error.what()).find(str("clip ", order.at(17).clip)), std::string::npos);
    }
    loader.seek(20);
    EXPECT_EQ(loader.next().position, 20U);
  }
}

TEST(Loader, ADamagedClipIsReplacedByAlwaysTheSame) {
  const auto store = std::make_shared<FormulaStore>(40);
  const Order order(3, 40, {});
  store->bad = {1, 2, 3, order.substitute(17, 0), order.at(17).clip};
  std::vector<std::vector<Copy>> runs;
  for (const int threads : {0, 1, 4}) {
    LoaderConfig config = options(threads, 0.5);
    config.set_bad_clip(LoaderConfig::SKIP);
    Loader loader(store, config, {.seed = 3, .batch = 4});
    runs.push_back(run(loader, 10));
    for (const Copy& batch : runs.back()) {
      for (size_t k = 0; k < 4; ++k) {
        EXPECT_FALSE(store->bad.contains(batch.clips[k].clip));
        EXPECT_EQ(batch.labels[k], static_cast<int64_t>(batch.clips[k].clip % 10));
        EXPECT_EQ(batch.clips[k].flip, Order(3, 40, {1, 0.5, true}).at(batch.position + k).flip);
      }
    }
    EXPECT_GE(loader.counts().skipped, store->bad.size());
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_EQ(runs[0], runs[2]);
}

TEST(Loader, AStoreWithoutAGoodClipIsAnErrorEvenWhenSkipping) {
  const auto store = std::make_shared<FormulaStore>(4);
  store->bad = {0, 1, 2, 3};
  LoaderConfig config = options(1);
  config.set_bad_clip(LoaderConfig::SKIP);
  Loader loader(store, config, {.seed = 3, .batch = 2});
  EXPECT_EQ(error_of([&] { loader.next(); }).code(), Code::kData);
}

TEST(Loader, SkippingForgivesNothingButDamage) {
  const auto store = std::make_shared<FormulaStore>(4);
  LoaderConfig config = options(1);
  config.set_bad_clip(LoaderConfig::SKIP);
  store->lost = 2;
  {
    Loader loader(store, config, {.seed = 3, .batch = 4});
    EXPECT_EQ(error_of([&] { loader.next(); }).code(), Code::kStorage);
  }
  store->lost.reset();
  store->broken = 2;
  Loader loader(store, config, {.seed = 3, .batch = 4});
  const Error error = error_of([&] { loader.next(); });
  EXPECT_EQ(error.code(), Code::kBug);
  EXPECT_NE(std::string(error.what()).find("something unexpected"), std::string::npos);
}

TEST(Loader, HeldBatchesStayAsTheyAre) {
  const auto store = std::make_shared<FormulaStore>(40);
  Batch kept, older;
  Copy before;
  {
    Loader loader(store, options(4), {.seed = 3, .batch = 4});
    older = loader.next();
    kept = loader.next();
    before = copy(kept);
    for (int step = 0; step < 30; ++step) loader.next();
    EXPECT_EQ(copy(kept), before);
  }
  EXPECT_EQ(copy(kept), before) << "the loader is gone, the batch is not";
}

TEST(Loader, HoldingEveryBatchIsAnErrorAndNotAHang) {
  const auto store = std::make_shared<FormulaStore>(40);
  for (const int threads : {0, 1}) {
    Loader loader(store, options(threads), {.seed = 3, .batch = 4});
    std::vector<Batch> held;
    const Error error = error_of([&] {
      for (int i = 0; i < 100; ++i) held.push_back(loader.next());
    });
    EXPECT_EQ(error.code(), Code::kBug);
    EXPECT_EQ(held.size(), 5U);  // prefetch 3, and 2 for the consumer
    held.clear();
    EXPECT_EQ(loader.next().position, 20U);
  }
}

TEST(Loader, ReadsAheadAndNoFurther) {
  const auto store = std::make_shared<FormulaStore>(1000);
  Loader loader(store, options(2), {.seed = 3, .batch = 4});
  const int most = 5 * 4;
  for (int i = 0; i < 500 && store->reads < most; ++i) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(store->reads, most);
}

TEST(Loader, EndingWhileThreadsReadDoesNotHang) {
  const auto store = std::make_shared<FormulaStore>(1000);
  store->delay = 5ms;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    {
      Loader loader(store, options(4), {.seed = 3, .batch = 200});
      if (i % 2 == 1) std::this_thread::sleep_for(10ms);
    }
    // A batch takes a second; the threads give up at the next clip.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 700ms);
  }
}

TEST(Loader, SeekingWhileThreadsReadIsSafe) {
  const auto store = std::make_shared<FormulaStore>(100);
  Loader loader(store, options(4), {.seed = 3, .batch = 4});
  const Order order(3, 100, {});
  for (uint64_t i = 0; i < 300; ++i) {
    const uint64_t position = i * 37 % 500;
    loader.seek(position);
    if (i % 3 == 0) std::this_thread::yield();
    const Batch batch = loader.next();
    ASSERT_EQ(batch.position, position);
    for (size_t k = 0; k < 4; ++k) {
      ASSERT_EQ(batch.clips[k].clip, order.at(position + k).clip);
      ASSERT_EQ(batch.frames[k * 180], pixel(batch.clips[k].clip, 0, 0));
    }
  }
}

TEST(Loader, BatchesMayBeDroppedByAnotherThread) {
  const auto store = std::make_shared<FormulaStore>(100);
  Loader loader(store, options(2), {.seed = 3, .batch = 4});
  for (int i = 0; i < 50; ++i) {
    std::thread user([batch = loader.next()]() mutable { batch.frames[0] ^= 1; });
    user.join();
  }
}

TEST(Loader, WaitingIsMeasured) {
  const auto store = std::make_shared<FormulaStore>(100);
  store->delay = 2ms;
  Loader loader(store, options(0), {.seed = 3, .batch = 5});
  loader.next();
  loader.next();
  const LoaderCounts counts = loader.counts();
  EXPECT_GE(counts.wait_seconds, 0.020);
  EXPECT_EQ(counts.clips, 10U);
  EXPECT_EQ(counts.bytes, 10U * 180);
  EXPECT_EQ(counts.skipped, 0U);
}

TEST(Loader, BuffersComeFromTheGivenAllocator) {
  const auto store = std::make_shared<FormulaStore>(100);
  int alive = 0;
  {
    Loader loader(store, options(1), {.seed = 3, .batch = 4}, [&](size_t bytes) {
      ++alive;
      return std::shared_ptr<void>(new uint8_t[bytes], [&](void* p) {
        --alive;
        delete[] static_cast<uint8_t*>(p);
      });
    });
    EXPECT_EQ(alive, 5);
    loader.next();
  }
  EXPECT_EQ(alive, 0);
  const Error error = error_of([&] {
    Loader(store, options(1), {.batch = 4}, [](size_t) { return std::shared_ptr<void>(); });
  });
  EXPECT_EQ(error.code(), Code::kUsage);
}

TEST(Loader, BatchesThatFitNoMemoryAreRefused) {
  const auto store = std::make_shared<FormulaStore>(100, ClipShape{1000, 1000, 1000, 4});
  EXPECT_EQ(error_of([&] { Loader(store, options(1), {.batch = 1 << 20}); }).code(), Code::kUsage);
  EXPECT_EQ(error_of([&] { Loader(store, options(1), {.ranks = 3, .batch = 4}); }).code(),
            Code::kUsage);
  Loader loader(std::make_shared<FormulaStore>(5), options(0), {.batch = 1});
  EXPECT_EQ(error_of([&] { loader.seek(~uint64_t{0}); }).code(), Code::kUsage);
}

}  // namespace
}  // namespace lf
