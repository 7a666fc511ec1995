// Philox in its vector form, streams filled chunk by chunk, and the permutation.
#include "base/random.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/isa.h"
#include "base/random_lanes.h"

namespace lf {
namespace {

constexpr size_t kBlocks = kBlocksTogether;
constexpr size_t kChunk = 4 * kBlocks;  // words of them

__extension__ using uint128 = unsigned __int128;

// The key of a stream, and the last words of its counters.
struct Keyed {
  uint32_t k0, k1, a0, a1, b;
};

Keyed keyed(const Stream& stream, uint32_t block_high) {
  const auto key = stream_key(stream, block_high);
  return {key[0], key[1], static_cast<uint32_t>(stream.a), static_cast<uint32_t>(stream.a >> 32),
          stream.b};
}

// words[w * 16 + i] = word w of block first + i.
LF_INLINE void philox_chunk(const Keyed& key, uint32_t first, uint32_t* words) {
  uint32_t* c0 = words;
  uint32_t* c1 = words + kBlocks;
  uint32_t* c2 = words + 2 * kBlocks;
  uint32_t* c3 = words + 3 * kBlocks;
  for (uint32_t i = 0; i < kBlocks; ++i) {
    c0[i] = first + i;
    c1[i] = key.a0;
    c2[i] = key.a1;
    c3[i] = key.b;
  }
  uint32_t k0 = key.k0, k1 = key.k1;
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      const uint64_t p0 = static_cast<uint64_t>(kMultiply0) * c0[i];
      const uint64_t p1 = static_cast<uint64_t>(kMultiply1) * c2[i];
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c0[i] = n0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = n2;
      c3[i] = static_cast<uint32_t>(p0);
    }
  }
}

struct BitsKernel {
  static LF_INLINE void run(Keyed key, uint32_t chunk, size_t chunks, uint32_t* out) {
    for (size_t i = 0; i < chunks; ++i) {
      uint32_t words[kChunk];
      philox_chunk(key, (chunk + static_cast<uint32_t>(i)) * kBlocks, words);
      for (size_t k = 0; k < kChunk; ++k) out[i * kChunk + k] = words[k];
    }
  }
};

struct UniformKernel {
  static LF_INLINE void run(Keyed key, uint32_t chunk, size_t chunks, float* out) {
    for (size_t i = 0; i < chunks; ++i) {
      uint32_t words[kChunk];
      philox_chunk(key, (chunk + static_cast<uint32_t>(i)) * kBlocks, words);
      for (size_t k = 0; k < kChunk; ++k) {
        out[i * kChunk + k] = unit_interval(words[k]);
      }
    }
  }
};

struct NormalKernel {
  static LF_INLINE void run(Keyed key, uint32_t chunk, size_t chunks, float* out) {
    for (size_t i = 0; i < chunks; ++i) {
      uint32_t words[kChunk];
      float values[kChunk];
      philox_chunk(key, (chunk + static_cast<uint32_t>(i)) * kBlocks, words);
      for (size_t k = 0; k < kBlocks; ++k) {
        box_muller(words[k], words[k + kBlocks], &values[k], &values[k + kBlocks]);
      }
      for (size_t k = 2 * kBlocks; k < 3 * kBlocks; ++k) {
        box_muller(words[k], words[k + kBlocks], &values[k], &values[k + kBlocks]);
      }
      for (size_t k = 0; k < kChunk; ++k) out[i * kChunk + k] = values[k];
    }
  }
};

// Whole chunks go straight to `out`; the ragged ends through one chunk on the stack. Blocks are
// numbered in 64 bits: the high half is part of the key.
template <typename Kernel, typename T>
void fill(const Stream& stream, uint64_t first, size_t count, T* out) {
  constexpr uint64_t kChunksPerKey = (uint64_t{1} << 32) / kBlocks;
  while (count > 0) {
    const uint64_t chunk = first / kChunk;
    const size_t skip = first % kChunk;
    const Keyed key = keyed(stream, static_cast<uint32_t>(chunk / kChunksPerKey));
    const uint32_t low = static_cast<uint32_t>(chunk % kChunksPerKey);
    size_t done = 0;
    if (skip == 0 && count >= kChunk) {
      const size_t chunks = std::min<uint64_t>(count / kChunk, kChunksPerKey - low);
      run_kernel<Kernel>(key, low, chunks, out);
      done = chunks * kChunk;
    } else {
      T whole[kChunk];
      run_kernel<Kernel>(key, low, size_t{1}, &whole[0]);
      done = std::min(count, kChunk - skip);
      std::copy_n(whole + skip, done, out);
    }
    first += done;
    count -= done;
    out += done;
  }
}

// A strong mixing of 64 bits (multiply and fold the product's halves), for Feistel rounds.
uint64_t mix(uint64_t value, uint64_t key) {
  const auto product = static_cast<uint128>(value ^ key) * 0x9E3779B97F4A7C15u;
  const uint64_t folded = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  const auto again = static_cast<uint128>(folded + key) * 0xD6E8FEB86659FD93u;
  return static_cast<uint64_t>(again) ^ static_cast<uint64_t>(again >> 64);
}

}  // namespace

std::array<uint32_t, 4> philox(uint64_t key, const std::array<uint32_t, 4>& counter) {
  std::array<uint32_t, 4> words = counter;
  philox_block(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), words.data());
  return words;
}

std::array<uint32_t, 2> stream_key(const Stream& stream, uint32_t block_high) {
  const auto key =
      philox(stream.seed, {static_cast<uint32_t>(stream.purpose), stream.c, block_high, 0x4c46u});
  return {key[0], key[1]};
}

void uniform_bits(const Stream& stream, uint64_t first, size_t count, uint32_t* out) {
  fill<BitsKernel>(stream, first, count, out);
}

void uniform(const Stream& stream, uint64_t first, size_t count, float* out) {
  fill<UniformKernel>(stream, first, count, out);
}

void normal(const Stream& stream, uint64_t first, size_t count, float* out) {
  fill<NormalKernel>(stream, first, count, out);
}

uint64_t random_below(const Stream& stream, uint64_t index, uint64_t bound) {
  LF_CHECK(bound > 0);
  uint32_t words[2];
  uniform_bits(stream, 2 * index, 2, words);
  const uint64_t x = (static_cast<uint64_t>(words[1]) << 32) | words[0];
  return static_cast<uint64_t>((static_cast<uint128>(x) * bound) >> 64);
}

Permutation::Permutation(uint64_t seed, uint64_t epoch, uint64_t n) : n_(n) {
  LF_CHECK(n > 0, "a permutation of nothing");
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2);
  for (uint32_t i = 0; i < round_keys_.size(); i += 2) {
    const auto words = philox(
        seed, {static_cast<uint32_t>(epoch), static_cast<uint32_t>(epoch >> 32), i, 0x5045524du});
    round_keys_[i] = (static_cast<uint64_t>(words[1]) << 32) | words[0];
    round_keys_[i + 1] = (static_cast<uint64_t>(words[3]) << 32) | words[2];
  }
}

uint64_t Permutation::operator()(uint64_t position) const {
  LF_CHECK(position < n_, "position ", position, " of ", n_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = position;
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (const uint64_t key : round_keys_) {
      const uint64_t next = left ^ (mix(right, key) >> (64 - half_bits_));
      left = right;
      right = next & mask;
    }
    value = (left << half_bits_) | right;
  } while (value >= n_);
  return value;
}

}  // namespace lf
