// Arrays and statistics in NumPy's files, ours and others', whole and damaged.
#include "run/arrays.h"

#include <ATen/ops/equal.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "data/formats/npz.h"
#include "eval/statistics.h"
#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

const std::string kFixtures = std::string(LF_FIXTURES) + "/metrics/";

std::string bytes_of(const std::string& path) {
  return read_file(real_file_system(), path, 1 << 24);
}

std::map<std::string, std::string> unpack(const std::string& archive) {
  return unpack_npz({reinterpret_cast<const uint8_t*>(archive.data()), archive.size()}, 1 << 24,
                    "it");
}

class Arrays : public testing::Test {
 protected:
  Arrays() : folder_(testing::TempDir() + str("lf-arrays-", ::getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~Arrays() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

TEST_F(Arrays, StatisticsReadBackEqual) {
  Moments moments;
  moments.add(mixed_rows(40, 6, 1));
  save_statistics(moments, path("ours.npz"));
  const Statistics again = load_statistics(path("ours.npz"));
  EXPECT_EQ(again.n, 40);
  EXPECT_TRUE(at::equal(again.moments.mean(), moments.mean()));
  EXPECT_LT((again.moments.covariance() - moments.covariance()).abs().max().item<double>(), 1e-14);
}

// NumPy wrote statistics.npz by savez_compressed, as pytorch-fid does, from features.npy.
TEST_F(Arrays, StatisticsOfPytorchFidsLayoutAreRead) {
  const Statistics statistics = load_statistics(kFixtures + "statistics.npz");
  Moments moments;
  moments.add(load_features(kFixtures + "regular-a.npy"));
  EXPECT_EQ(statistics.n, 0);  // pytorch-fid does not say
  EXPECT_LT((statistics.moments.mean() - moments.mean()).abs().max().item<double>(), 1e-12);
  EXPECT_LT((statistics.moments.covariance() - moments.covariance()).abs().max().item<double>(),
            1e-11);
}

TEST_F(Arrays, EveryFlippedBitOfAnArchiveIsNamedOrWithoutEffect) {
  const std::string whole = bytes_of(kFixtures + "statistics.npz");
  const std::map<std::string, std::string> members = unpack(whole);
  ASSERT_EQ(members.size(), 2U);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    try {
      for (const auto& [name, bytes] : unpack(damaged)) {
        // A name may have changed, contents not.
        EXPECT_TRUE(bytes == members.at("mu") || bytes == members.at("sigma")) << at;
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData) << at;
    }
  }
}

TEST_F(Arrays, EveryTruncatedArchiveIsNamed) {
  const std::string whole = bytes_of(kFixtures + "statistics.npz");
  for (size_t length = 0; length < whole.size(); ++length) {
    error_of(Code::kData, [&] { unpack(whole.substr(0, length)); });
  }
}

TEST_F(Arrays, ArchivesThatInflateBeyondTheirLimitAreRefused) {
  const std::string archive = pack_npz({{"a", std::string(1000, 'x')}});
  EXPECT_EQ(unpack(archive).at("a"), std::string(1000, 'x'));
  EXPECT_TRUE(contains(error_of(Code::kData,
                                [&] {
                                  unpack_npz({reinterpret_cast<const uint8_t*>(archive.data()),
                                              archive.size()},
                                             999, "it");
                                }),
                       "too many"));
}

TEST_F(Arrays, WrongStatisticsAreNamed) {
  const at::Tensor mu = normal_rows(1, 3, 1)[0], sigma = normal_rows(3, 3, 2);
  save_npz({{"mu", mu}}, path("no-sigma.npz"));
  EXPECT_TRUE(
      contains(error_of(Code::kData, [&] { load_statistics(path("no-sigma.npz")); }), "sigma"));
  save_npz({{"mu", mu}, {"sigma", sigma}}, path("not-symmetric.npz"));
  EXPECT_TRUE(contains(error_of(Code::kData, [&] { load_statistics(path("not-symmetric.npz")); }),
                       "symmetric"));
  save_npz({{"mu", mu}, {"sigma", (sigma + sigma.t()).log()}}, path("nan.npz"));
  EXPECT_TRUE(contains(error_of(Code::kData, [&] { load_statistics(path("nan.npz")); }), "finite"));
  save_npz({{"mu", mu}, {"sigma", sigma.slice(0, 0, 2)}}, path("shape.npz"));
  EXPECT_TRUE(
      contains(error_of(Code::kData, [&] { load_statistics(path("shape.npz")); }), "d x d"));
}

TEST_F(Arrays, FeaturesThatAreNotFiniteOrNotRowsAreNamed) {
  EXPECT_TRUE(
      contains(error_of(Code::kData, [] { load_features(kFixtures + "nan.npy"); }), "not finite"));
  EXPECT_TRUE(contains(error_of(Code::kData, [] { load_features(kFixtures + "images-a.npy"); }),
                       "dimensions"));
  EXPECT_TRUE(contains(error_of(Code::kUsage, [] { load_features(kFixtures + "absent.npy"); }),
                       "absent.npy"));
}

}  // namespace
}  // namespace lf
