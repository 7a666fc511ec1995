// Sixteen floats at a time, in the compiler's own vector type: AVX-512, AVX2, SSE2 or NEON code
// comes out of the same source, for the width that base/isa.h chooses at run time, without
// intrinsics. Everything here is inlined into a kernel; nothing of torch. Sums may be contracted
// (fma), so the bits depend on the CPU, not on the number of threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/isa.h"

// The vectors are wider than some CPUs' registers, which matters to calls only, and all is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace lf {

constexpr int64_t kLanes = 16;

using Lanes = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Shorts = uint16_t __attribute__((vector_size(32)));
using Pairs = uint16_t __attribute__((vector_size(64)));
// The same in memory, wherever it begins.
using LooseLanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using LooseShorts = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));
using LoosePairs = uint16_t __attribute__((vector_size(64), aligned(2), may_alias));

// A bf16 as memory holds it.
struct Bf16 {
  uint16_t bits;
};
// The same, rounded by the CPU's own instruction in a tenth of the operations; run_bf16() chooses
// it. Values below 2^-126 become zeros.
struct NativeBf16 : Bf16 {};

LF_INLINE Lanes all(float x) { return Lanes{} + x; }
LF_INLINE Words bits_of(Lanes x) { return reinterpret_cast<Words>(x); }
LF_INLINE Lanes lanes_of(Words x) { return reinterpret_cast<Lanes>(x); }

// To the nearest bf16, ties to even, in the upper halves; what is NaN stays NaN.
LF_INLINE Words rounded(Lanes x) {
  const Words bits = bits_of(x);
  const Words near = bits + 0x7fffu + ((bits >> 16) & 1u);
  return reinterpret_cast<Words>(x == x ? near : Words{} + 0x7fc00000u) & 0xffff0000u;
}

LF_INLINE Lanes load(const float* from) { return *reinterpret_cast<const LooseLanes*>(from); }
LF_INLINE Lanes load(const Bf16* from) {
  const Shorts bits = *reinterpret_cast<const LooseShorts*>(from);
  return lanes_of(__builtin_convertvector(bits, Words) << 16);
}
LF_INLINE void store(float* to, Lanes x) { *reinterpret_cast<LooseLanes*>(to) = x; }
LF_INLINE void store(Bf16* to, Lanes x) {
  *reinterpret_cast<LooseShorts*>(to) = __builtin_convertvector(rounded(x) >> 16, Shorts);
}
// Assembly, because an intrinsic cannot be inlined into a kernel before its width is known, and
// because the conversion above is made in halves (GCC 12). Clang takes neither there, and has
// Bf16's way.
#if defined(__x86_64__) && !defined(__clang__)
#define LF_NATIVE_BF16
#endif
#if defined(LF_NATIVE_BF16)
LF_INLINE Lanes load(const NativeBf16* from) {
  Words bits;
  __asm__("vpmovzxwd %1, %0" : "=v"(bits) : "m"(*reinterpret_cast<const LooseShorts*>(from)));
  return lanes_of(bits << 16);
}
LF_INLINE void store(NativeBf16* to, Lanes x) {
  Shorts bits;
  __asm__("vcvtneps2bf16 %1, %0" : "=v"(bits) : "v"(x));
  *reinterpret_cast<LooseShorts*>(to) = bits;
}
#endif

// Elements of `a` and then of `b`, each rounded to a bf16.
template <typename X>
LF_INLINE Pairs joined(Lanes a, Lanes b) {
#if defined(LF_NATIVE_BF16)
  if constexpr (std::is_same_v<X, NativeBf16>) {
    Pairs bits;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(bits) : "v"(a), "v"(b));
    return bits;
  }
#endif
  const Shorts first = __builtin_convertvector(rounded(a) >> 16, Shorts),
               second = __builtin_convertvector(rounded(b) >> 16, Shorts);
  return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
                                 31);
}

// Elements of `a` and `b` in turn, each rounded to a bf16.
template <typename X>
LF_INLINE Pairs interleaved(Lanes a, Lanes b) {
  if constexpr (std::is_same_v<X, NativeBf16>) {
    const Pairs both = joined<X>(a, b);
    return __builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                   23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
  } else {
    return reinterpret_cast<Pairs>((rounded(a) >> 16) | rounded(b));
  }
}

// Of the first `count` lanes only; the others are 0, or left alone.
template <typename X>
LF_INLINE Lanes load(const X* from, int64_t count) {
  if (count >= kLanes) return load(from);
  X part[kLanes] = {};
  std::memcpy(part, from, static_cast<size_t>(count) * sizeof(X));
  return load(part);
}
template <typename X>
LF_INLINE void store(X* to, Lanes x, int64_t count) {
  if (count >= kLanes) return store(to, x);
  X part[kLanes];
  store(part, x);
  std::memcpy(to, part, static_cast<size_t>(count) * sizeof(X));
}

LF_INLINE Lanes larger(Lanes a, Lanes b) { return a < b ? b : a; }  // NaN in `a` stays
LF_INLINE Lanes smaller(Lanes a, Lanes b) { return b < a ? b : a; }

template <int kBy, size_t... kLane>
LF_INLINE Lanes rotated(Lanes x, std::index_sequence<kLane...> /*lanes*/) {
  return __builtin_shufflevector(x, x, (static_cast<int>(kLane + kBy) % 16)...);
}
template <int kBy>
LF_INLINE Lanes rotated(Lanes x) {  // lane i gets lane i + kBy
  return rotated<kBy>(x, std::make_index_sequence<16>());
}

LF_INLINE float sum_of(Lanes x) {
  x += rotated<8>(x);
  x += rotated<4>(x);
  x += rotated<2>(x);
  x += rotated<1>(x);
  return x[0];
}

// The larger one, NaN if one of them is NaN. Adds the NaN instead of choosing it: two
// choices in a row are made lane by lane, with a branch for each (GCC 12).
LF_INLINE Lanes largest(Lanes a, Lanes b) { return larger(a, b) + (b == b ? Lanes{} : b); }
LF_INLINE float largest_of(Lanes x) {
  x = largest(x, rotated<8>(x));
  x = largest(x, rotated<4>(x));
  x = largest(x, rotated<2>(x));
  x = largest(x, rotated<1>(x));
  return x[0];
}

LF_INLINE Lanes root(Lanes x) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out[i] = __builtin_sqrtf(x[i]);
  return out;
}

// 2^r within 2e-7 of it for r of at most a half.
LF_INLINE Lanes small_power_of_two(Lanes r) {
  Lanes p = all(0.00132764718F);  // the polynomial of least relative error there
  p = p * r + 0.00967554133F;
  p = p * r + 0.0555071327F;
  p = p * r + 0.240221197F;
  p = p * r + 0.693146967F;
  return p * r + 1.00000007F;
}

constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves an integer in the low bits

// e^x within 2e-7 of it where |x| is small and 2e-6 anywhere; 0 below -87, where floats end, and
// e^88 from there on. The remainder is one fma, so that the product in it is not rounded.
LF_INLINE Lanes exponential(Lanes x) {
  constexpr float kLog2e = 1.44269504F;
  const Lanes within = smaller(x, all(88.0F));
  const Lanes shifted = within * kLog2e + kRound;
  const Lanes p = small_power_of_two(within * kLog2e - (shifted - kRound));
  const Lanes power = p * lanes_of((bits_of(shifted) << 23) + bits_of(all(1.0F)));
  return x < all(-87.3F) ? Lanes{} : power;
}

// 2^x within 2e-7 of it for x up to 127; 2^-126 below that, no less.
LF_INLINE Lanes power_of_two(Lanes x) {
  const Lanes within = larger(x, all(-126.0F));
  const Lanes shifted = within + kRound;
  return small_power_of_two(within - (shifted - kRound)) *
         lanes_of((bits_of(shifted) << 23) + bits_of(all(1.0F)));
}

LF_INLINE Lanes sigmoid(Lanes x) { return 1.0F / (1.0F + exponential(-x)); }

// The exact GELU, x * Phi(x), and its derivative. Phi through the error function as Abramowitz and
// Stegun 7.1.26 gives it, which is within 1.5e-7.
struct Gelu {
  Lanes value, derivative;
};
LF_INLINE Gelu gelu(Lanes x) {
  const Lanes z = (x < Lanes{} ? -x : x) * 0.707106781F;
  const Lanes t = 1.0F / (1.0F + 0.3275911F * z);
  Lanes p = all(1.061405429F);
  p = p * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const Lanes bell = exponential(-0.5F * x * x);
  const Lanes tail = 0.5F * p * t * bell;  // 1 - Phi(|x|)
  const Lanes phi = x < Lanes{} ? tail : 1.0F - tail;
  return {x * phi, phi + x * bell * 0.398942280F};
}

template <int kStep, size_t... kLane>
LF_INLINE void exchange(Lanes& a, Lanes& b, std::index_sequence<kLane...> /*lanes*/) {
  const Lanes low = __builtin_shufflevector(
      a, b,
      ((kLane & kStep) != 0 ? 16 + static_cast<int>(kLane) - kStep : static_cast<int>(kLane))...);
  b = __builtin_shufflevector(
      a, b,
      ((kLane & kStep) != 0 ? 16 + static_cast<int>(kLane) : static_cast<int>(kLane) + kStep)...);
  a = low;
}

template <int kStep>
LF_INLINE void exchange_all(Lanes* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if ((i & kStep) == 0) exchange<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<16>());
  }
}

// 16 x 16, in place.
LF_INLINE void transpose(Lanes* rows) {
  exchange_all<8>(rows);
  exchange_all<4>(rows);
  exchange_all<2>(rows);
  exchange_all<1>(rows);
}

// A kernel that writes bf16, at isa()'s width.
template <template <typename> class Kernel, typename... Args>
void run_bf16(Args... args) {
#if defined(__x86_64__)
  if (isa() == Isa::kAvx512Bf16) return run_avx512<Kernel<NativeBf16>>(args...);
#endif
  run_kernel<Kernel<Bf16>>(args...);
}

// A kernel of rows in bf16, or in single precision.
template <template <typename> class Kernel, typename... Args>
void run_rows(bool bf16, Args... args) {
  if (bf16) return run_bf16<Kernel>(args...);
  run_kernel<Kernel<float>>(args...);
}

}  // namespace lf
