// The kinds of sources that read files, on small files made here, but for folders of images
// (folder_test.cc). Drawn ones and the sample data: generated_test.cc and sample_data_test.cc.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "base/file.h"
#include "data/formats/npy.h"
#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

using Cifar = SourceTest;
using Npy = SourceTest;
using Idx = SourceTest;
using Frames = SourceTest;
using Split = SourceTest;

std::string cifar_record(uint8_t label, uint8_t red, uint8_t green, uint8_t blue) {
  std::string record(1, static_cast<char>(label));
  for (const uint8_t plane : {red, green, blue})
    record += std::string(1024, static_cast<char>(plane));
  return record;
}

TEST_F(Cifar, CountComesFromTheSizeAndPlanesAreInterleaved) {
  put(at("data_batch_1.bin"), cifar_record(3, 1, 2, 3) + cifar_record(9, 4, 5, 6));
  put(at("data_batch_2.bin"), cifar_record(0, 7, 8, 9));
  put(at("test_batch.bin"), cifar_record(1, 0, 0, 0));
  const auto source = open({"cifar.path=" + folder_});
  ASSERT_EQ(source->size(), 3u);
  const Sample second = source->load(1), third = source->load(2);
  EXPECT_EQ(second.label, 9);
  EXPECT_EQ(second.name, "data_batch_1.bin#1");
  EXPECT_EQ(std::vector<uint8_t>(second.pixels.begin(), second.pixels.begin() + 4),
            (std::vector<uint8_t>{4, 5, 6, 4}));
  EXPECT_EQ(third.name, "data_batch_2.bin#0");
  EXPECT_EQ(open({"cifar.path=" + folder_, "cifar.test=true"})->size(), 1u);
  EXPECT_EQ(open({"cifar.path=" + at("data_batch_2.bin")})->size(), 1u);
}

TEST_F(Cifar, HundredClassesHaveACoarseLabel) {
  put(at("train.bin"), "\x07" + cifar_record(99, 1, 2, 3));
  const auto source = open({"cifar.path=" + folder_});
  const Sample sample = source->load(0);
  EXPECT_EQ(sample.label, 99);
  EXPECT_EQ(source->side_columns().at(0).name, "coarse_label");
  EXPECT_EQ(sample.side.at(0).ints, std::vector<int64_t>{7});
  EXPECT_EQ(sample.pixels[2], 3);
}

TEST_F(Cifar, DamageIsNamed) {
  put(at("data_batch_1.bin"), cifar_record(3, 1, 2, 3) + "x");
  EXPECT_NE(refusal({"cifar.path=" + folder_}).find("3: "), std::string::npos);
  put(at("data_batch_1.bin"), cifar_record(10, 1, 2, 3));
  EXPECT_NE(bad_item(*open({"cifar.path=" + folder_}), 0).find("label 10"), std::string::npos);
  EXPECT_EQ(refusal({"cifar.path=" + at("none")}).substr(0, 2), "2:");
  EXPECT_EQ(refusal({"cifar.path=" + folder_, "cifar.classes=7"}).substr(0, 2), "2:");
}

std::string npy(const std::string& type, const std::vector<uint64_t>& shape,
                const std::string& data) {
  return npy_header(type, shape) + data;
}

// 0, 1, 2, ... modulo 251.
std::string counting(size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i % 251);
  return bytes;
}

TEST_F(Npy, LayoutsAreRecognisedOrAskedFor) {
  const auto shape = [&](const std::vector<uint64_t>& dims, const std::string& layout = "AUTO") {
    size_t count = 1;
    for (const uint64_t size : dims) count *= size;
    put(at("a.npy"), npy("|u1", dims, counting(count)));
    return open({"npy.path=" + at("a.npy"), "npy.layout=" + layout})->shape();
  };
  EXPECT_EQ(shape({5, 8, 9}), (ClipShape{1, 8, 9, 1}));
  EXPECT_EQ(shape({5, 8, 9, 3}), (ClipShape{1, 8, 9, 3}));
  EXPECT_EQ(shape({5, 4, 8, 9, 3}), (ClipShape{4, 8, 9, 3}));
  EXPECT_EQ(shape({20, 3, 64, 64}), (ClipShape{20, 64, 64, 1})) << "Moving MNIST";
  EXPECT_EQ(shape({3, 20, 64, 64}, "NTHW"), (ClipShape{20, 64, 64, 1}));
  EXPECT_EQ(shape({5, 3, 8, 9}, "NCHW"), (ClipShape{1, 8, 9, 3}));
  put(at("a.npy"), npy("|u1", {5, 7, 8, 9}, counting(5 * 7 * 8 * 9)));
  EXPECT_NE(refusal({"npy.path=" + at("a.npy")}).find("set source.npy.layout"), std::string::npos);
  EXPECT_EQ(refusal({"npy.path=" + at("a.npy"), "npy.layout=NTHWC"}).substr(0, 2), "2:");
}

TEST_F(Npy, MovingMnistIsFrameFirst) {
  const std::string data = counting(20 * 3 * 64 * 64);
  put(at("a.npy"), npy("|u1", {20, 3, 64, 64}, data));
  const auto source = open({"npy.path=" + at("a.npy")});
  ASSERT_EQ(source->size(), 3u);
  const Sample clip = source->load(2);
  for (const size_t t : {0, 7, 19}) {
    for (const size_t p : {0, 100, 4095}) {
      EXPECT_EQ(clip.pixels[t * 4096 + p], static_cast<uint8_t>(data[(t * 3 + 2) * 4096 + p]));
    }
  }
}

TEST_F(Npy, ChannelPlanesAreInterleaved) {
  put(at("a.npy"), npy("|u1", {1, 3, 2, 2}, counting(12)));
  EXPECT_EQ(open({"npy.path=" + at("a.npy"), "npy.layout=NCHW"})->load(0).pixels,
            (std::vector<uint8_t>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
}

TEST_F(Npy, WindowsCutVideosIntoClips) {
  put(at("a.npy"), npy("|u1", {2, 10, 1, 1}, counting(20)));
  const auto frames = [&](const std::vector<std::string>& window) {
    std::vector<std::string> sets = {"npy.path=" + at("a.npy"), "npy.layout=NTHW"};
    sets.insert(sets.end(), window.begin(), window.end());
    const auto source = open(sets);
    std::vector<std::vector<uint8_t>> clips;
    for (uint64_t i = 0; i < source->size(); ++i) clips.push_back(source->load(i).pixels);
    return clips;
  };
  using Clips = std::vector<std::vector<uint8_t>>;
  EXPECT_EQ(frames({"window.frames=4"}),
            (Clips{{0, 1, 2, 3}, {4, 5, 6, 7}, {10, 11, 12, 13}, {14, 15, 16, 17}}));
  EXPECT_EQ(frames({"window.frames=3", "window.stride=4"}), (Clips{{0, 4, 8}, {10, 14, 18}}));
  EXPECT_EQ(frames({"window.frames=9", "window.hop=1"}).size(), 4u);
  EXPECT_EQ(frames({"window.stride=3"}), (Clips{{0, 3, 6, 9}, {10, 13, 16, 19}}));
  EXPECT_EQ(
      refusal({"npy.path=" + at("a.npy"), "npy.layout=NTHW", "window.frames=11"}).substr(0, 2),
      "2:");
}

TEST_F(Npy, EmbeddingsAreASideColumnOfEveryKindOfSource) {
  put(at("a.npy"), npy("|u1", {2, 1, 1}, counting(2)));
  const float rows[] = {0.5F, -1, 2, 0.25F, 8, -0.125F};
  put(at("e.npy"),
      npy("<f4", {2, 3}, std::string(reinterpret_cast<const char*>(rows), sizeof(rows))));
  const auto source = open({"npy.path=" + at("a.npy"), "embeddings=" + at("e.npy")});
  ASSERT_EQ(source->side_columns().size(), 1U);
  EXPECT_EQ(source->side_columns()[0].name, "embedding");
  EXPECT_EQ(source->side_columns()[0].width, 3);
  EXPECT_EQ(source->load(1).side.at(0).floats, (std::vector<float>{0.25F, 8, -0.125F}));
  EXPECT_NE(refusal({"generated.count=3", "embeddings=" + at("e.npy")}).find("expected [3, width]"),
            std::string::npos);
  put(at("tokens.npy"),
      npy("<f4", {2, 3, 1}, std::string(reinterpret_cast<const char*>(rows), sizeof(rows))));
  const auto tokens = open({"npy.path=" + at("a.npy"), "embeddings=" + at("tokens.npy")});
  EXPECT_EQ(tokens->load(1).side.at(0).floats, source->load(1).side.at(0).floats);
  const auto drawn = open({"generated.count=2", "embeddings=" + at("e.npy")});
  EXPECT_EQ(drawn->load(0).side.back().floats, (std::vector<float>{0.5F, -1, 2}));
}

TEST_F(Npy, LabelsAreReadWithTheirSign) {
  put(at("a.npy"), npy("|u1", {2, 1, 1}, counting(2)));
  put(at("l.npy"), npy("<i2", {2}, std::string("\xfe\xff\x02\x01", 4)));
  const auto source = open({"npy.path=" + at("a.npy"), "npy.labels=" + at("l.npy")});
  EXPECT_EQ(source->load(0).label, -2);
  EXPECT_EQ(source->load(1).label, 258);
  put(at("l.npy"), npy("<i2", {1}, "xx"));
  EXPECT_EQ(refusal({"npy.path=" + at("a.npy"), "npy.labels=" + at("l.npy")}).substr(0, 2), "3:");
}

TEST_F(Npy, NumPysOwnFilesAreReadAndOthersRefusedWithAdvice) {
  EXPECT_EQ(open({"npy.path=" + fixture("grey.npy")})->load(1).pixels[0], 16);
  EXPECT_NE(refusal({"npy.path=" + fixture("float.npy")}).find("astype('uint8')"),
            std::string::npos);
  EXPECT_NE(refusal({"npy.path=" + fixture("fortran.npy")}).find("ascontiguousarray"),
            std::string::npos);
  const std::string file = read_file(real_file_system(), fixture("grey.npy"), 1 << 20);
  EXPECT_EQ(file.substr(0, file.size() - 32), npy_header("|u1", {2, 4, 4})) << "as NumPy writes it";
}

TEST_F(Npy, HostileHeadersAreRefused) {
  const std::string data(8, 'x');
  const auto refused = [&](const std::string& dictionary) {
    std::string file("\x93NUMPY\x01\x00", 8);
    file += static_cast<char>(dictionary.size());
    file += '\0';
    put(at("a.npy"), file + dictionary + data);
    return refusal({"npy.path=" + at("a.npy")}).substr(0, 2) == "3:";
  };
  const std::string good = "'descr': '|u1', 'fortran_order': False, ";
  EXPECT_FALSE(refused("{" + good + "'shape': (2, 2, 2), }"));
  EXPECT_FALSE(refused("{'shape':(2,2,2),\"descr\":'u1','fortran_order':False}\n"));
  EXPECT_TRUE(refused("{" + good + "'shape': (2, 2, 3), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (2, 2, 1), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (4294967296, 4294967296, 2), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (18446744073709551617, 1, 1), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (-2, -2, 2), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (0, 2, 2), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (1, 1, 1, 1, 1, 1, 1, 1, 8), }"));
  EXPECT_TRUE(refused("{" + good + "}"));
  EXPECT_TRUE(refused("{" + good + good + "'shape': (2, 2, 2), }"));
  EXPECT_TRUE(refused("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (8,), }"));
  EXPECT_TRUE(refused("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2, 2), }"));
  EXPECT_TRUE(refused("{" + good + "'shape': (2, 2, 2), } import os"));
  EXPECT_TRUE(refused(""));
  put(at("a.npy"), std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12));
  EXPECT_EQ(refusal({"npy.path=" + at("a.npy")}).substr(0, 2), "3:");
  put(at("a.npy"), "");
  EXPECT_EQ(refusal({"npy.path=" + at("a.npy")}).substr(0, 2), "3:");
}

TEST_F(Idx, PlainAndGzippedFilesAreEqual) {
  const auto plain = open({"idx.path=" + fixture("grey.idx")});
  const auto gzipped = open({"idx.path=" + fixture("grey.idx.gz")});
  ASSERT_EQ(plain->size(), 2u);
  EXPECT_EQ(plain->shape(), (ClipShape{1, 4, 4, 1}));
  for (uint64_t i = 0; i < 2; ++i) EXPECT_EQ(plain->load(i).pixels, gzipped->load(i).pixels);
  EXPECT_EQ(plain->load(1).pixels[3], 19);
  EXPECT_EQ(open({"idx.path=" + fixture("grey.idx"), "channels=3", "size=8"})->shape(),
            (ClipShape{1, 8, 8, 3}));
}

TEST_F(Idx, LabelsBesideTheImagesAreFound) {
  fs::copy(fixture("grey.idx"), at("train-images-idx3-ubyte"));
  put(at("train-labels-idx1-ubyte"), std::string("\0\0\x08\x01\0\0\0\x02\x05\x06", 10));
  const auto source = open({"idx.path=" + at("train-images-idx3-ubyte")});
  EXPECT_EQ(source->load(0).label, 5);
  EXPECT_EQ(source->load(1).label, 6);
  put(at("train-labels-idx1-ubyte"), std::string("\0\0\x08\x01\0\0\0\x01\x05", 9));
  EXPECT_EQ(refusal({"idx.path=" + at("train-images-idx3-ubyte")}).substr(0, 2), "3:");
}

TEST_F(Idx, AFolderOrAMissingEndingIsAnsweredByTheFileThatIsThere) {
  fs::copy(fixture("grey.idx"), at("t10k-images-idx3-ubyte.gz"));
  const std::string found = at("t10k-images-idx3-ubyte.gz");
  EXPECT_EQ(refusal({"idx.path=" + folder_}),
            "2: source.idx.path: " + folder_ + " is a folder, expected a file such as " + found);
  EXPECT_EQ(refusal({"idx.path=" + at("t10k-images-idx3-ubyte")}),
            "2: source.idx.path: there is no file " + at("t10k-images-idx3-ubyte") +
                "; did you mean " + found + "?");
}

TEST_F(Idx, HostileFilesAreRefused) {
  const std::string good = read_file(real_file_system(), fixture("grey.idx"), 1 << 20);
  const auto code = [&](const std::string& bytes) {
    put(at("a"), bytes);
    return refusal({"idx.path=" + at("a")}).substr(0, 2);
  };
  EXPECT_EQ(code(good), "");
  EXPECT_EQ(code(good + "x"), "3:");
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_EQ(code(good.substr(0, length)), "3:");
  EXPECT_EQ(code(std::string("\0\0\x0D\x03", 4) + good.substr(4)), "3:") << "floats";
  EXPECT_EQ(code(std::string("\0\0\x08\xff", 4) + good.substr(4)), "3:") << "rank 255";
  EXPECT_EQ(code(std::string("\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16)),
            "3:");
  EXPECT_EQ(code(std::string("\0\0\x08\x01\0\0\0\x02xx", 10)), "2:") << "labels are not images";
  const std::string gzip = read_file(real_file_system(), fixture("grey.idx.gz"), 1 << 20);
  for (size_t length = 2; length < gzip.size(); ++length)
    EXPECT_EQ(code(gzip.substr(0, length)), "3:");
}

TEST_F(Idx, GzipThatPromisesTooMuchIsRefusedBeforeAllocation) {
  // A stored gzip block that holds only the header of [2^32 - 1, 4096, 4096].
  const std::string header("\0\0\x08\x03\xff\xff\xff\xff\0\0\x10\0\0\0\x10\0", 16);
  std::string gzip("\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x10\0\xef\xff", 15);
  gzip += header;
  put(at("a.gz"), gzip);
  EXPECT_NE(refusal({"idx.path=" + at("a.gz")}).find("gunzip it first"), std::string::npos);
  gzip[15 + 4] = gzip[15 + 5] = gzip[15 + 6] = 0;
  gzip[15 + 7] = 9;
  put(at("a.gz"), gzip);
  EXPECT_NE(refusal({"idx.path=" + at("a.gz")}).find("of this length can hold"), std::string::npos);
}

TEST_F(Frames, VideosAreFoldersAndFramesComeByNumber) {
  for (int t = 0; t < 12; ++t) {
    add_image(str("run/v1/f", t, ".png"), grey(4, 4, static_cast<uint8_t>(t)));
    add_image(str("walk/v2/f", t, ".png"), grey(4, 4, static_cast<uint8_t>(100 + t)));
  }
  add_image("walk/v3/f0.png", grey(4, 4, 0));
  const auto source = open({"frames.path=" + folder_, "window.frames=6", "channels=1"});
  ASSERT_EQ(source->size(), 4u);
  EXPECT_EQ(source->label_names(), (std::vector<std::string>{"run", "walk"}));
  const Sample clip = source->load(1);
  for (size_t t = 0; t < 6; ++t) EXPECT_EQ(clip.pixels[t * 16], 6 + t);
  EXPECT_EQ(clip.name, "run/v1/f6.png");
  EXPECT_EQ(source->load(3).label, 1);
  EXPECT_EQ(source->group_of(2), source->group_of(3));
  EXPECT_NE(source->group_of(1), source->group_of(2));
  EXPECT_NE(refusal({"frames.path=" + folder_}).find("set source.window.frames"),
            std::string::npos);
  EXPECT_EQ(refusal({"frames.path=" + at("run/v1")}).substr(0, 2), "2:");
  EXPECT_EQ(refusal({"frames.path=" + folder_, "window.frames=13"}).substr(0, 2), "2:");
}

TEST_F(Split, PartsAreDisjointAndTogetherAll) {
  const std::vector<std::string> base = {"generated.kind=shapes", "generated.count=4000"};
  std::multiset<std::string> names;
  std::array<uint64_t, 3> sizes{};
  const char* parts[] = {"TRAIN", "VALIDATION", "TEST"};
  for (size_t p = 0; p < 3; ++p) {
    std::vector<std::string> sets = base;
    sets.push_back(str("split.part=", parts[p]));
    sets.push_back("split.test=0.2");
    const auto source = open(sets);
    sizes[p] = source->size();
    for (uint64_t i = 0; i < source->size(); ++i) names.insert(source->name_of(i));
  }
  EXPECT_EQ(names.size(), 4000u);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 4000u);
  EXPECT_NEAR(static_cast<double>(sizes[1]), 400, 4 * std::sqrt(400 * 0.9));
  EXPECT_NEAR(static_cast<double>(sizes[2]), 800, 4 * std::sqrt(800 * 0.8));
  EXPECT_EQ(open(base)->size(), 4000u) << "without the option, all of the source";
}

TEST_F(Split, ItemsKeepTheirPartWhenOthersAreAdded) {
  const auto train = [&](int count) {
    const auto source = open({"generated.kind=shapes", str("generated.count=", count),
                              "split.part=VALIDATION", "split.validation=0.3"});
    std::set<std::string> names;
    for (uint64_t i = 0; i < source->size(); ++i) names.insert(source->name_of(i));
    return names;
  };
  const std::set<std::string> few = train(100), many = train(500);
  EXPECT_TRUE(std::includes(many.begin(), many.end(), few.begin(), few.end()));
}

TEST_F(Split, ClipsOfOneVideoStayTogether) {
  put(at("a.npy"), npy("|u1", {40, 10, 1, 1}, counting(400)));
  const auto source = open({"npy.path=" + at("a.npy"), "npy.layout=NTHW", "window.frames=2",
                            "split.part=TRAIN", "split.validation=0.5", "split.test=0"});
  std::map<std::string, int> clips;
  for (uint64_t i = 0; i < source->size(); ++i) ++clips[source->group_of(i)];
  EXPECT_GT(clips.size(), 5u);
  EXPECT_LT(clips.size(), 35u);
  for (const auto& [video, count] : clips) EXPECT_EQ(count, 5) << video;
}

TEST_F(Split, SharesOverOneAndEmptyPartsAreRefused) {
  EXPECT_EQ(refusal({"generated.count=5", "split.validation=0.7", "split.test=0.7"}).substr(0, 2),
            "2:");
  EXPECT_EQ(refusal({"generated.count=5", "split.part=TEST", "split.test=0"}).substr(0, 2), "2:");
}

TEST_F(SourceTest, APathTellsItsKindByNamesAlone) {
  EXPECT_EQ(kind_at("a.npy"), "npy");
  EXPECT_EQ(kind_at("a.TAR"), "archive");
  EXPECT_EQ(kind_at("a.mp4"), "videos");
  EXPECT_EQ(kind_at("nowhere"), "folder");
  for (const auto& [file, kind] : {std::pair{"z/deep/9.png", "folder"},
                                   {"b/notes.txt", "folder"},
                                   {"b/1.avi", "videos"},
                                   {"a/0.npy", "videos"},
                                   {"a/1.zip", "archive"}}) {
    fs::create_directories(fs::path(at(file)).parent_path());
    put(at(file), "");
    EXPECT_EQ(kind_at(folder_), kind) << file;
  }
  SourceConfig config;
  set_path(config, "videos", "a.mp4");
  EXPECT_EQ(config.videos().path(), "a.mp4");
}

}  // namespace
}  // namespace lf::source_test
