#include "data/loader/order.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace lf {
namespace {

// Keeps the substitutes' stream of Purpose::kOrder apart from the permutation's, keyed by epoch.
constexpr uint32_t kSubstitutes = 0x80000000;

// A flip is a comparison of 32 random bits with the probability, so that 0 is never and 1 is
// always. Neighbouring positions share a stream, so that their bits are made together.
constexpr uint64_t kFlipStream = 1 << 16;  // positions

void fill_flips(uint64_t seed, double probability, uint64_t first, std::span<OrderEntry> entries) {
  if (probability <= 0) return;
  std::array<uint32_t, 256> bits;
  for (size_t done = 0; done < entries.size();) {
    const uint64_t position = first + done, begin = position % kFlipStream;
    const size_t count =
        std::min<uint64_t>({entries.size() - done, bits.size(), kFlipStream - begin});
    uniform_bits({seed, Purpose::kFlip, position / kFlipStream}, begin, count, bits.data());
    for (size_t i = 0; i < count; ++i) {
      entries[done + i].flip = std::ldexp(static_cast<double>(bits[i]), -32) < probability;
    }
    done += count;
  }
}

}  // namespace

RankSlice slice_of_rank(uint64_t batch, int rank, int ranks) {
  LF_CHECK(ranks > 0 && rank >= 0 && rank < ranks, "rank ", rank, " of ", ranks);
  const auto n = static_cast<uint64_t>(ranks);
  if (batch == 0 || batch % n != 0) {
    fail(Code::kUsage, "the batch of ", batch, " clips cannot be divided evenly over ", ranks,
         " ranks; choose a batch that is a multiple of ", ranks);
  }
  return {batch / n * static_cast<uint64_t>(rank), batch / n};
}

Order::Order(uint64_t seed, uint64_t clips, const OrderOptions& options)
    : seed_(seed), clips_(clips), options_(options) {
  if (clips == 0)
    fail(Code::kUsage, "the store holds no clips; build it from a source that has some");
}

OrderEntry Order::at(uint64_t position) const {
  OrderEntry entry;
  fill(position, {&entry, 1});
  return entry;
}

void Order::fill(uint64_t first, std::span<OrderEntry> entries) const {
  for (size_t done = 0; done < entries.size();) {
    const uint64_t epoch = (first + done) / clips_;
    const uint64_t begin = (first + done) % clips_;
    const size_t count = std::min<uint64_t>(entries.size() - done, clips_ - begin);
    const Permutation permutation(seed_, epoch, clips_);
    for (size_t i = 0; i < count; ++i) {
      OrderEntry& entry = entries[done + i];
      entry.epoch = epoch;
      entry.clip = options_.shuffle ? permutation(begin + i) : begin + i;
      entry.draw = static_cast<uint32_t>(options_.draws == 0 ? epoch : epoch % options_.draws);
      entry.flip = false;
    }
    done += count;
  }
  fill_flips(seed_, options_.flip, first, entries);
}

uint64_t Order::substitute(uint64_t position, uint32_t attempt) const {
  return random_below({seed_, Purpose::kOrder, position, kSubstitutes}, attempt, clips_);
}

}  // namespace lf
