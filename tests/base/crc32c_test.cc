// CRC-32C by each way that this CPU can take, against the published check value and the table.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <string_view>
#include <vector>

namespace lf {
namespace {

std::vector<unsigned char> random_bytes(size_t size, std::mt19937_64& random) {
  std::vector<unsigned char> bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

TEST(Crc32c, EveryPathGivesTheCheckValue) {
  constexpr std::string_view kDigits = "123456789";
  for (const Crc32cPath& path : crc32c_paths()) {
    EXPECT_EQ(path.extend(kDigits.data(), kDigits.size(), 0), 0xE3069283) << path.name;
    EXPECT_EQ(path.extend(kDigits.data(), 0, 7), 7U) << path.name;
  }
  EXPECT_EQ(crc32c(kDigits.data(), kDigits.size()), 0xE3069283);
}

// 32 bytes of zeros, of ones and counting up: the examples of RFC 3720, appendix B.4, which say
// what the table itself must give.
TEST(Crc32c, TheTableGivesTheExamplesOfIscsi) {
  std::vector<unsigned char> bytes(32, 0);
  EXPECT_EQ(crc32c_portable(bytes.data(), bytes.size()), 0x8A9136AA);
  bytes.assign(32, 0xFF);
  EXPECT_EQ(crc32c_portable(bytes.data(), bytes.size()), 0x62A8AB43);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i);
  EXPECT_EQ(crc32c_portable(bytes.data(), bytes.size()), 0x46DD794E);
}

// Every size around the blocks of the fast paths, and every alignment.
TEST(Crc32c, EveryPathAgreesWithTheTableAtEverySize) {
  std::mt19937_64 random(1);
  const std::vector<unsigned char> bytes = random_bytes(4096 + 64, random);
  for (const Crc32cPath& path : crc32c_paths()) {
    for (size_t size = 0; size <= 4096; size += size < 1100 ? 1 : 13) {
      const unsigned char* begin = bytes.data() + size % 64;
      ASSERT_EQ(path.extend(begin, size, 0), crc32c_portable(begin, size))
          << path.name << ", " << size << " bytes";
    }
  }
}

TEST(Crc32c, EveryPathAgreesWithTheTableHoweverTheBytesAreSplit) {
  constexpr size_t kLongest = 10'000;
  std::mt19937_64 random(2);
  const std::vector<unsigned char> bytes = random_bytes(2 * kLongest, random);
  for (const Crc32cPath& path : crc32c_paths()) {
    for (int trial = 0; trial < 2'000; ++trial) {
      const size_t size = random() % (kLongest + 1), split = random() % (size + 1);
      const unsigned char* begin = bytes.data() + random() % kLongest;
      const auto before = static_cast<uint32_t>(random());
      const uint32_t expected = crc32c_portable(begin, size, before);
      ASSERT_EQ(path.extend(begin, size, before), expected) << path.name << ", " << size;
      const uint32_t first = path.extend(begin, split, before);
      ASSERT_EQ(path.extend(begin + split, size - split, first), expected)
          << path.name << ", " << split << " of " << size;
    }
  }
}

TEST(Crc32c, CopyCopiesExactlyAndGivesTheChecksumOfTheCopy) {
  constexpr size_t kLongest = 10'000, kFence = 64;
  std::mt19937_64 random(3);
  const std::vector<unsigned char> bytes = random_bytes(kLongest + 64, random);
  for (int trial = 0; trial < 1'000; ++trial) {
    const size_t size = trial < 600 ? static_cast<size_t>(trial) : random() % (kLongest + 1);
    const unsigned char* begin = bytes.data() + random() % 64;
    const size_t to = kFence + random() % 64;
    std::vector<unsigned char> copy(to + size + kFence, 0xA5), expected = copy;
    std::copy(begin, begin + size, expected.begin() + static_cast<std::ptrdiff_t>(to));
    ASSERT_EQ(crc32c_copy(copy.data() + to, begin, size), crc32c_portable(begin, size)) << size;
    ASSERT_EQ(copy, expected) << size;
  }
}

}  // namespace
}  // namespace lf
