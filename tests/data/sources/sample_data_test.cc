// The sources on the sample data, where it is at hand.
#include <cstdlib>
#include <map>

#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

class SampleData : public testing::Test {
 protected:
  void SetUp() override {
    const char* given = std::getenv("LASTFRAME_DATA");
    root_ = given ? given : std::string(LF_SOURCE_DIR) + "/../shared/data";
    if (!fs::is_directory(root_)) {
      GTEST_SKIP() << "no sample data at " << root_ << "; set LASTFRAME_DATA to its folder";
    }
  }
  std::string root_;
};

TEST_F(SampleData, CifarLabelsEqualTheIndexFile) {
  for (const char* batch : {"data_batch_1", "test_batch"}) {
    const auto source = open({str("cifar.path=", root_, "/cifar10/", batch, ".bin")});
    std::ifstream index(root_ + "/cifar10/" + batch + ".index.txt");
    int64_t label = -1;
    std::string path;
    uint64_t i = 0;
    while (index >> label >> path) {
      ASSERT_LT(i, source->size());
      ASSERT_EQ(source->load(i).label, label) << i;
      EXPECT_NE(path.find("/" + source->label_names().at(static_cast<size_t>(label)) + "/"),
                std::string::npos);
      ++i;
    }
    EXPECT_EQ(i, source->size());
  }
}

// The binary file's pixels are the folder's JPEGs decoded by libjpeg-turbo.
TEST_F(SampleData, CifarPixelsEqualTheFoldersJpegs) {
  const auto binary = open({"cifar.path=" + root_ + "/cifar10/data_batch_1.bin"});
  const auto folder = open({"folder.path=" + root_ + "/cifar10/imagefolder"});
  ASSERT_EQ(folder->size(), 200u);
  ASSERT_EQ(folder->label_names(), binary->label_names());
  std::map<std::string, uint64_t> by_name;
  std::ifstream index(root_ + "/cifar10/data_batch_1.index.txt");
  std::string label, path;
  for (uint64_t i = 0; index >> label >> path; ++i) by_name[path.substr(6)] = i;
  for (uint64_t i = 0; i < folder->size(); ++i) {
    const Sample from_folder = folder->load(i),
                 from_binary = binary->load(by_name.at(folder->name_of(i)));
    EXPECT_EQ(from_folder.pixels, from_binary.pixels) << from_folder.name;
    EXPECT_EQ(from_folder.label, from_binary.label);
  }
}

TEST_F(SampleData, MnistHasItsLabels) {
  const auto source = open({"idx.path=" + root_ + "/mnist/t10k-images-idx3-ubyte.gz"});
  ASSERT_EQ(source->size(), 10000u);
  EXPECT_EQ(source->shape(), (ClipShape{1, 28, 28, 1}));
  std::vector<int64_t> labels;
  for (uint64_t i = 0; i < 8; ++i) labels.push_back(source->load(i).label);
  EXPECT_EQ(labels, (std::vector<int64_t>{7, 2, 1, 0, 4, 1, 4, 9}));
}

TEST_F(SampleData, MnistDigitsBounce) {
  const auto source = open({"generated.kind=moving-digits",
                            "generated.idx=" + root_ + "/mnist/t10k-images-idx3-ubyte.gz"});
  const Sample clip = source->load(0);
  EXPECT_EQ(clip.pixels.size(), 20u * 64 * 64);
  for (const int64_t digit : clip.side.at(1).ints) EXPECT_TRUE(digit >= 0 && digit <= 9);
}

TEST_F(SampleData, ImagenetSampleIsReadAtBothSizes) {
  for (const int side : {64, 256}) {
    const auto source = open({"folder.path=" + root_ + "/imagenet-sample", str("size=", side)});
    ASSERT_EQ(source->size(), 300u);
    EXPECT_EQ(source->label_names().size(), 300u);
    EXPECT_EQ(source->shape(), (ClipShape{1, side, side, 3}));
    for (uint64_t i = 0; i < 300; ++i) EXPECT_EQ(bad_item(*source, i), "");
  }
}

TEST_F(SampleData, FacesAndVideosAreRead) {
  const auto faces = open({"folder.path=" + root_ + "/faces/celeba_hq", "size=128"});
  EXPECT_EQ(faces->size(), 46u);
  EXPECT_EQ(faces->load(45).pixels.size(), 128u * 128 * 3);
  const auto videos = open({"frames.path=" + root_ + "/video/frames64", "window.frames=16"});
  EXPECT_EQ(videos->size(), 24u);
  EXPECT_EQ(videos->shape(), (ClipShape{16, 64, 64, 3}));
  EXPECT_EQ(videos->load(23).name, "ucf101_makeup/000112.png");
}

}  // namespace
}  // namespace lf::source_test
