// One lane of the arithmetic of keyed random numbers: a block of Philox, a uniform draw from a
// word, two normals from two words (Box-Muller with our own polynomials). Compiled into the CPU's
// vector loops by base/random and into the GPU's kernels by src/cuda, with the same bits: only
// + - x, fma and sqrt, each rounded once. The polynomials were fitted at Chebyshev nodes by
// tools/fixtures/normal_polynomials.py; changing a digit here changes every store that holds noise.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define LF_LANE __device__ __forceinline__
#else
#include <bit>

#include "base/isa.h"
#define LF_LANE LF_INLINE
#endif

namespace lf {

constexpr uint32_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;
constexpr uint32_t kBlocksTogether = 16;  // of a chunk, which is laid out word by word

LF_LANE uint32_t bits_of(float x) {
#if defined(__CUDACC__)
  return __float_as_uint(x);
#else
  return std::bit_cast<uint32_t>(x);
#endif
}

LF_LANE float float_of(uint32_t bits) {
#if defined(__CUDACC__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

// Counter to random words, in place.
LF_LANE void philox_block(uint32_t k0, uint32_t k1, uint32_t* c) {
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    const uint64_t p0 = static_cast<uint64_t>(kMultiply0) * c[0];
    const uint64_t p1 = static_cast<uint64_t>(kMultiply1) * c[2];
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
    c[0] = n0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = n2;
    c[3] = static_cast<uint32_t>(p0);
  }
}

// 24 bits of a word, in [0, 1).
LF_LANE float unit_interval(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 8)) * 0x1p-24f;
}

// ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = f - f^2/2 + f^3 P(f).
LF_LANE float natural_log(float x) {
  constexpr uint32_t kRootHalf = 0x3f3504f3;
  const uint32_t shifted = bits_of(x) + (0x3f800000 - kRootHalf);
  const float e = static_cast<float>(static_cast<int32_t>(shifted >> 23) - 127);
  const float f = float_of((shifted & 0x007fffff) + kRootHalf) - 1.0f;
  float p = 0.07149753719568253f;
  p = std::fma(p, f, -0.115712009370327f);
  p = std::fma(p, f, 0.11661510914564133f);
  p = std::fma(p, f, -0.12411050498485565f);
  p = std::fma(p, f, 0.14249937236309052f);
  p = std::fma(p, f, -0.1666848063468933f);
  p = std::fma(p, f, 0.20000708103179932f);
  p = std::fma(p, f, -0.24999989569187164f);
  p = std::fma(p, f, 0.3333333134651184f);
  const float square = f * f;
  const float log_m = std::fma(square * f, p, std::fma(square, -0.5f, f));
  return std::fma(e, 0.693147182464599609375f, log_m);
}

// Two normals from two words: radius from the first (31 bits, so the tail ends at 6.66), angle from
// the second: two bits of quadrant, 24 bits within it, measured from the quadrant's middle.
LF_LANE void box_muller(uint32_t w0, uint32_t w1, float* out0, float* out1) {
  const float u = std::fma(static_cast<float>(static_cast<int32_t>(w0 >> 1)), 0x1p-31f, 0x1p-32f);
  const float radius = std::sqrt(-2.0f * natural_log(u));
  const float y = std::fma(static_cast<float>(static_cast<int32_t>((w1 & 0x3fffffff) >> 6)),
                           0x1p-24f, 0x1p-25f - 0.5f);
  const float z = y * y;
  float s = 0.00015820653061382473f;
  s = std::fma(s, z, -0.004681266378611326f);
  s = std::fma(s, z, 0.07969257980585098f);
  s = std::fma(s, z, -0.6459640860557556f);
  s = std::fma(s, z, 1.5707963705062866f);
  s = s * y;
  float c = 0.00090362987248227f;
  c = std::fma(c, z, -0.02086007036268711f);
  c = std::fma(c, z, 0.25366920232772827f);
  c = std::fma(c, z, -1.2337005138397217f);
  c = std::fma(c, z, 1.0f);
  // Turning by the quadrant swaps them and flips signs.
  const uint32_t swap = 0u - ((w1 >> 30) & 1u);
  const uint32_t sb = bits_of(s), cb = bits_of(c);
  const uint32_t flip = w1 & 0x80000000u;
  const uint32_t first = ((cb & ~swap) | (sb & swap)) ^ flip ^ (swap & 0x80000000u);
  const uint32_t second = ((sb & ~swap) | (cb & swap)) ^ flip;
  *out0 = radius * float_of(first);
  *out1 = radius * float_of(second);
}

}  // namespace lf
