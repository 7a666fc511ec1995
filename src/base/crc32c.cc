#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lf {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reversed

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

// The CRC register after `zeros` zero bytes, as a linear map applied to `crc`: lets three
// independent streams be joined, since one stream is bound by the instruction's latency of 3.
uint32_t shift_by_zeros(uint32_t crc, size_t zeros) {
  for (size_t i = 0; i < zeros; ++i) crc = kTable[crc & 0xFF] ^ (crc >> 8);
  return crc;
}

constexpr size_t kStride = 1024;  // bytes of each of the three streams

// shift_by_zeros(crc, kStride), one table a byte of the register.
struct ShiftTable {
  std::array<std::array<uint32_t, 256>, 4> part;
  ShiftTable() : part{} {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      for (uint32_t i = 0; i < 4; ++i) part[i][byte] = shift_by_zeros(byte << (8 * i), kStride);
    }
  }
  uint32_t operator()(uint32_t crc) const {
    return part[0][crc & 0xFF] ^ part[1][(crc >> 8) & 0xFF] ^ part[2][(crc >> 16) & 0xFF] ^
           part[3][crc >> 24];
  }
};

#if defined(__x86_64__)
#define LF_HARDWARE_CRC __attribute__((target("sse4.2")))
bool has_hardware_crc() { return __builtin_cpu_supports("sse4.2"); }
LF_HARDWARE_CRC inline uint64_t step8(uint64_t crc, uint64_t word) {
  return __builtin_ia32_crc32di(crc, word);
}
LF_HARDWARE_CRC inline uint32_t step1(uint32_t crc, uint8_t byte) {
  return __builtin_ia32_crc32qi(crc, byte);
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define LF_HARDWARE_CRC
bool has_hardware_crc() { return true; }
inline uint64_t step8(uint64_t crc, uint64_t word) {
  return __builtin_aarch64_crc32cx(static_cast<uint32_t>(crc), word);
}
inline uint32_t step1(uint32_t crc, uint8_t byte) { return __builtin_aarch64_crc32cb(crc, byte); }
#endif

#if defined(LF_HARDWARE_CRC)
LF_HARDWARE_CRC inline uint64_t load8(const unsigned char* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

LF_HARDWARE_CRC uint32_t crc32c_instruction(const void* data, size_t size, uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  static const ShiftTable shift;
  uint64_t a = ~crc;
  while (size >= 3 * kStride) {
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < kStride; i += 8) {
      a = step8(a, load8(p + i));
      b = step8(b, load8(p + kStride + i));
      c = step8(c, load8(p + 2 * kStride + i));
    }
    a = shift(shift(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ c;
    p += 3 * kStride;
    size -= 3 * kStride;
  }
  for (; size >= 8; p += 8, size -= 8) a = step8(a, load8(p));
  auto rest = static_cast<uint32_t>(a);
  for (; size > 0; ++p, --size) rest = step1(rest, *p);
  return ~rest;
}

#if defined(__x86_64__)
// Folding, by carry-less products of 512-bit registers.
//
// The CRC is the remainder, modulo P, of the message times x^32, where the message is a polynomial
// over GF(2) whose first bit has the highest power. So bytes at the front may be replaced by
// anything congruent: a register of 128 bits, standing n bits ahead of the place where it is to be
// added, is low * x^(64 + n) + high * x^n, and each half may be multiplied by the remainder of its
// power instead of being moved (the low half has the earlier bytes). That needs two products and no
// table, and they do not wait for each other. When one register is left, the crc32 instruction
// divides it by P.
//
// Bits are reflected: bit i of a half is the power 63 - i. The product of two halves has the sum of
// the powers 63 - i and 63 - j in bit i + j, but as a register of 128 bits that bit stands for
// 127 - i - j, one more. Hence a factor x too many, and constants of one power less.
#define LF_FOLDING_CRC __attribute__((target("avx512f,pclmul,vpclmulqdq,sse4.2")))

bool has_folding_crc() {
  return has_hardware_crc() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("vpclmulqdq");
}

// x^power modulo P as the half of a register: its powers, 31 to 0, are bits 32 to 63.
constexpr int64_t power_of_x(int power) {
  uint32_t remainder = 0x80000000;  // x^0
  for (int i = 0; i < power; ++i) {
    remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kPolynomial : 0);
  }
  return static_cast<int64_t>(static_cast<uint64_t>(remainder) << 32);
}

// The two factors that move 128 bits ahead by `bits`.
template <int bits>
struct Move {
  static constexpr int64_t kLow = power_of_x(bits + 64 - 1);
  static constexpr int64_t kHigh = power_of_x(bits - 1);
};

// Each 128 bits of `front` moved by the factors of its place, plus `back`.
LF_FOLDING_CRC inline __m512i fold(__m512i front, __m512i factors, __m512i back) {
  const __m512i low = _mm512_clmulepi64_epi128(front, factors, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(front, factors, 0x11);
  return _mm512_ternarylogic_epi64(low, high, back, 0x96);  // the exclusive or of three
}

// Four registers in flight hide the latency of the product.
constexpr size_t kRegister = 64, kBlock = 4 * kRegister;

template <int bits>
LF_FOLDING_CRC inline __m512i factors() {
  return _mm512_set4_epi64(Move<bits>::kHigh, Move<bits>::kLow, Move<bits>::kHigh,
                           Move<bits>::kLow);
}

// The register of the CRC once it has taken in the 512 bits of `sum`, beginning with 0.
LF_FOLDING_CRC inline uint64_t divide(__m512i sum) {
  const __m512i to_last = _mm512_set_epi64(0, 0, Move<128>::kHigh, Move<128>::kLow,  //
                                           Move<256>::kHigh, Move<256>::kLow,        //
                                           Move<384>::kHigh, Move<384>::kLow);
  const __m512i last = _mm512_maskz_mov_epi64(0xC0, sum);  // is where it belongs
  alignas(kRegister) uint64_t half[8];
  _mm512_store_si512(half, fold(sum, to_last, last));
  const uint64_t crc = step8(0, half[0] ^ half[2] ^ half[4] ^ half[6]);
  return step8(crc, half[1] ^ half[3] ^ half[5] ^ half[7]);
}

// How far ahead of a copy its bytes are asked for: what comes from memory, at a random place, is
// not yet seen coming by the CPU's own prefetching. Asking beyond the end is harmless.
constexpr size_t kAhead = 2048;

// The next 512 bits; with kCopy they are written to `into`, too.
template <bool kCopy>
LF_FOLDING_CRC inline __m512i take(const unsigned char* p, unsigned char* into, size_t at) {
  const __m512i bits = _mm512_loadu_si512(p + at);
  if constexpr (kCopy) {
    _mm_prefetch(reinterpret_cast<const char*>(p + at) + kAhead, _MM_HINT_T0);
    _mm512_storeu_si512(into + at, bits);
  }
  return bits;
}

// size >= kBlock. The bytes that end up in `into` are those that went into the checksum, even if
// the source changes meanwhile.
template <bool kCopy>
LF_FOLDING_CRC uint32_t fold_all(const unsigned char* p, size_t size, uint32_t crc,
                                 unsigned char* into) {
  // The register of the CRC so far is added to the first 32 bits, as the instruction does.
  __m512i a = _mm512_xor_si512(take<kCopy>(p, into, 0),
                               _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(~crc))));
  __m512i b = take<kCopy>(p, into, kRegister);
  __m512i c = take<kCopy>(p, into, 2 * kRegister);
  __m512i d = take<kCopy>(p, into, 3 * kRegister);
  const __m512i by_block = factors<8 * kBlock>();
  size_t at = kBlock;
  for (; size - at >= kBlock; at += kBlock) {
    a = fold(a, by_block, take<kCopy>(p, into, at));
    b = fold(b, by_block, take<kCopy>(p, into, at + kRegister));
    c = fold(c, by_block, take<kCopy>(p, into, at + 2 * kRegister));
    d = fold(d, by_block, take<kCopy>(p, into, at + 3 * kRegister));
  }
  const __m512i by_register = factors<8 * kRegister>();
  a = fold(fold(fold(a, by_register, b), by_register, c), by_register, d);
  for (; size - at >= kRegister; at += kRegister) {
    a = fold(a, by_register, take<kCopy>(p, into, at));
  }
  const unsigned char* rest = p + at;
  if constexpr (kCopy) rest = static_cast<unsigned char*>(std::memcpy(into + at, rest, size - at));
  return crc32c_instruction(rest, size - at, ~static_cast<uint32_t>(divide(a)));
}

uint32_t crc32c_folding(const void* data, size_t size, uint32_t crc) {
  if (size < kBlock) return crc32c_instruction(data, size, crc);
  return fold_all<false>(static_cast<const unsigned char*>(data), size, crc, nullptr);
}
#endif
#endif

}  // namespace

uint32_t crc32c_portable(const void* data, size_t size, uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (size_t i = 0; i < size; ++i) crc = kTable[(crc ^ p[i]) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::vector<Crc32cPath> crc32c_paths() {
  std::vector<Crc32cPath> paths;
#if defined(__x86_64__)
  if (has_folding_crc()) paths.push_back({"folding", crc32c_folding});
#endif
#if defined(LF_HARDWARE_CRC)
  if (has_hardware_crc()) paths.push_back({"instruction", crc32c_instruction});
#endif
  paths.push_back({"portable", crc32c_portable});
  return paths;
}

uint32_t crc32c(const void* data, size_t size, uint32_t crc) {
  static const auto fastest = crc32c_paths().front().extend;
  return fastest(data, size, crc);
}

uint32_t crc32c_copy(void* into, const void* data, size_t size) {
#if defined(__x86_64__)
  static const bool folding = has_folding_crc();
  if (folding && size >= kBlock) {
    return fold_all<true>(static_cast<const unsigned char*>(data), size, 0,
                          static_cast<unsigned char*>(into));
  }
#endif
  if (size > 0) std::memcpy(into, data, size);
  return crc32c(into, size);
}

}  // namespace lf
