// Counter-based random numbers: each is a pure function of a key, so data, noise and dropout do not
// depend on ranks, threads or restarts. Philox4x32-10, normals by + - x fma sqrt only (equal bits
// on every CPU and GPU), and a keyed permutation of [0, N). Not a std::random engine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lf {

// What a stream of random numbers is for. Streams of different purposes never share a number.
enum class Purpose : uint32_t {
  kOrder = 1,
  kSplit = 2,
  kCorruption = 3,
  kFlip = 4,
  kGenerated = 5,
  kInitialWeights = 6,
  kDiffusionTime = 7,
  kDiffusionNoise = 8,
  kDropout = 9,
  kSampling = 10,
  kCodebook = 11,
  kFrameChoice = 16,  // which frame of a clip a discriminator sees, a masked prior learns
  kMasking = 17,
  kLatent = 18,  // of a variational autoencoder
};

// Four 32-bit words from a 64-bit key and a 128-bit counter.
std::array<uint32_t, 4> philox(uint64_t key, const std::array<uint32_t, 4>& counter);

// A stream: (seed, purpose, three coordinates) such as (clip, draw, frame) or (position, layer).
// Its words are those of the Philox counters (block, a, b) under a key made of (seed, purpose,
// c). Sixteen blocks at a time are laid out word by word, so that vectors of blocks store without
// shuffling: element e is word (e / 16) % 4 of block 16 * (e / 64) + e % 16.
struct Stream {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kOrder;
  uint64_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
};

// The Philox key of the blocks of a stream whose index has this upper half; for code that computes
// blocks itself (random_lanes.h).
std::array<uint32_t, 2> stream_key(const Stream& stream, uint32_t block_high);

// Elements [first, first + count) of a stream, whatever chunks they are asked for in.
void uniform_bits(const Stream& stream, uint64_t first, size_t count, uint32_t* out);
void uniform(const Stream& stream, uint64_t first, size_t count, float* out);  // [0, 1), 24 bits
void normal(const Stream& stream, uint64_t first, size_t count, float* out);   // N(0, 1), |x| < 6.7
// Number `index` in [0, bound), from elements 2 index and 2 index + 1; its bias is below 2^-64
// bound.
uint64_t random_below(const Stream& stream, uint64_t index, uint64_t bound);

// A permutation of [0, n) chosen by a key, O(1) memory and time: a Feistel network on the smallest
// square power of two that holds n, walked until it lands below n (fewer than four steps on
// average).
class Permutation {
 public:
  Permutation(uint64_t seed, uint64_t epoch, uint64_t n);
  uint64_t operator()(uint64_t position) const;
  uint64_t size() const { return n_; }

 private:
  uint64_t n_;
  int half_bits_;
  std::array<uint64_t, 6> round_keys_;
};

}  // namespace lf
