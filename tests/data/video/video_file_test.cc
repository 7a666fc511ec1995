// Video files: fixtures whose frame t is R = 10 t, G = 15 x, B = 15 y, without loss.
#include "data/video/video_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "data/video/film.h"
#include "data/video/support.h"

namespace lf {
namespace {

std::string fixture(const std::string& name) {
  return std::string(LF_FIXTURES) + "/videos/" + name;
}

Image frame(int t) {
  Image image{16, 16, 3, {}};
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      for (const int value : {10 * t, 15 * x, 15 * y}) {
        image.pixels.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  return image;
}

class Videos : public testing::Test {
 protected:
  void SetUp() override {
    if (video_support().empty()) GTEST_SKIP() << "no FFmpeg";
    std::string name = testing::TempDir() + "/lastframe-video-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (!folder_.empty()) real_file_system().remove_tree(folder_);
  }

  std::string put(const std::string& name, const std::string& bytes) const {
    publish_file(real_file_system(), folder_ + "/" + name, bytes);
    return folder_ + "/" + name;
  }
  static std::string bytes_of(const std::string& path) {
    return read_file(real_file_system(), path, 1 << 20);
  }

  // One reader, the frames in this order. Empty images where one is refused.
  static std::vector<Image> read(const std::string& path, const std::vector<uint64_t>& order) {
    const VideoSummary summary = summary_of_video(path, {}, "video");
    VideoReader reader(path, {}, "video", summary.frames);
    std::vector<Image> images(summary.frames);
    for (const uint64_t t : order) {
      try {
        reader.read({&t, 1}, [&](Image image) { images[t] = std::move(image); });
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::kData);
      }
    }
    return images;
  }
  static std::vector<uint64_t> rising(const std::string& path) {
    std::vector<uint64_t> order(summary_of_video(path, {}, "video").frames);
    std::iota(order.begin(), order.end(), 0);
    return order;
  }
  static std::string refusal(const std::string& path, const VideoLimits& limits = {}) {
    try {
      summary_of_video(path, limits, "video");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData);
      return error.what();
    }
    return "";
  }

  std::string folder_;
};

TEST_F(Videos, FramesAreTheSameHoweverTheyAreReached) {
  for (const char* name : {"ordered.mp4", "closed.mkv", "uneven.mp4", "ffv1.mkv", "vp9.webm",
                           "raw.avi", "palette.gif", "cut.mp4", "lossy.avi"}) {
    const std::string path = fixture(name);
    std::vector<uint64_t> order = rising(path);
    const std::vector<Image> images = read(path, order);
    const bool few = path.ends_with("raw.avi") || path.ends_with(".gif");
    EXPECT_EQ(images.size(), few ? 5u : path.ends_with("cut.mp4") ? 12u : 24u) << name;
    const int first = path.ends_with("cut.mp4") ? 2 : 0;  // by its edit list
    for (size_t t = 0; t < images.size() && name != std::string("lossy.avi"); ++t) {
      EXPECT_EQ(images[t], frame(first + static_cast<int>(t))) << name << " " << t;
    }
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    EXPECT_EQ(read(path, order), images) << name;
  }
}

TEST_F(Videos, LossyFramesAreThoseOfTheirTime) {
  const std::vector<Image> images = read(fixture("lossy.avi"), rising(fixture("lossy.avi")));
  for (size_t t = 0; t < images.size(); ++t) {
    const Image expected = frame(static_cast<int>(t));
    double difference = 0;
    for (size_t i = 0; i < expected.pixels.size(); ++i) {
      difference += std::abs(images[t].pixels[i] - expected.pixels[i]);
    }
    EXPECT_LT(difference / static_cast<double>(expected.pixels.size()), 5) << t;
  }
}

// The matrices of the eight turns; what FFmpeg's command does with these files was compared by
// hand.
TEST_F(Videos, DisplayMatricesAreHonoured) {
  const std::string whole = bytes_of(fixture("ordered.mp4"));
  const auto number = [](int value) {
    const uint32_t fixed = static_cast<uint32_t>(value) << 16;
    std::string bytes;
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(fixed >> shift);
    return bytes;
  };
  const std::string zero = number(0);
  const auto matrix = [&](int a, int b, int c, int d) {
    return number(a) + number(b) + zero + number(c) + number(d) + zero + zero + zero;
  };
  const size_t at = whole.find(matrix(1, 0, 0, 1), whole.find("tkhd"));
  ASSERT_NE(at, std::string::npos);
  const int turns[8][4] = {{1, 0, 0, 1}, {-1, 0, 0, 1}, {-1, 0, 0, -1}, {1, 0, 0, -1},
                           {0, 1, 1, 0}, {0, 1, -1, 0}, {0, -1, -1, 0}, {0, -1, 1, 0}};
  for (int i = 0; i < 8; ++i) {
    const auto [a, b, c, d] = turns[i];
    std::string turned = whole;
    turned.replace(at, 32, matrix(a, b, c, d));
    EXPECT_EQ(read(put("turned.mp4", turned), {0})[0], turn_upright(frame(0), i + 1)) << i;
  }
  std::string slanted = whole;
  slanted.replace(at, 32, matrix(1, 1, 0, 1));
  EXPECT_NE(refusal(put("slanted.mp4", slanted)).find("display matrix"), std::string::npos);
}

TEST_F(Videos, WhatIsNoVideoOrTooLargeIsRefusedWithTheReason) {
  EXPECT_NE(refusal(put("a.mp4", "no video at all")).find("expected an mp4"), std::string::npos);
  EXPECT_NE(refusal(put("a.mp4", "")).find("is empty"), std::string::npos);
  EXPECT_NE(refusal(fixture("ordered.mp4"), {.pixels = 255}).find("max_megapixels"),
            std::string::npos);
  EXPECT_NE(refusal(fixture("ffv1.mkv"), {.frames = 23}).find("more than 23 frames"),
            std::string::npos);
  const std::string avi = bytes_of(fixture("raw.avi"));
  EXPECT_NE(refusal(put("a.avi", avi.substr(0, avi.size() / 2))).find("truncated"),
            std::string::npos);
  const std::string mp4 = bytes_of(fixture("ordered.mp4"));
  EXPECT_NE(refusal(put("a.mp4", mp4.substr(0, mp4.size() / 2))).find("moov"), std::string::npos);
}

// A few bytes that promise two thousand million frames of one byte, in one chunk.
TEST_F(Videos, PromisedFramesTakeLittleMemory) {
  std::string bytes = bytes_of(fixture("ordered.mp4"));
  const auto set = [&](const char* box, size_t at, uint32_t value) {
    at += bytes.find(box);
    for (const int shift : {24, 16, 8, 0}) bytes.at(at++) = static_cast<char>(value >> shift);
  };
  constexpr uint32_t kPromised = 0x7ffffff0;
  set("stsz", 8, 1);
  set("stsz", 12, kPromised);
  set("stsc", 16, kPromised);
  set("stts", 12, kPromised);
  const std::string path = put("a.mp4", bytes);
  const auto peak = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  const auto before = peak();
  const VideoLimits limits{.pixels = 1 << 14};
  if (refusal(path, limits).empty()) {
    VideoReader reader(path, limits, "video", 24);
    constexpr uint64_t kFirst[] = {0};
    EXPECT_THROW(reader.read(kFirst, [](const Image&) {}), Error);
  }
  EXPECT_LT(peak() - before, 256 << 10);
}

// Whatever is given is a frame of the formula; a damaged one is refused, however it is reached.
TEST_F(Videos, DamageNeverChangesWhichFramesAreRefused) {
  const std::string whole = bytes_of(fixture("ffv1.mkv"));  // with checksums
  std::mt19937 random(1);
  size_t refused = 0;
  for (int trial = 0; trial < 30; ++trial) {
    std::string bytes = whole;
    bytes[600 + random() % (bytes.size() - 600)] ^= static_cast<char>(1 << random() % 8);
    const std::string path = put("a.mkv", bytes);
    if (!refusal(path).empty()) continue;
    std::vector<uint64_t> order = rising(path);
    const std::vector<Image> images = read(path, order);
    refused += static_cast<size_t>(std::count(images.begin(), images.end(), Image()));
    std::shuffle(order.begin(), order.end(), random);
    EXPECT_EQ(read(path, order), images) << trial;
  }
  EXPECT_GT(refused, 30u);
}

TEST_F(Videos, FilmsAreWrittenAndReadAgain) {
  std::vector<Image> frames;
  for (int t = 0; t < 3; ++t) frames.push_back(frame(8 * t));
  for (Image& image : frames) {  // 17 columns: 4:2:0 has pairs
    image = Image{16, 17, 3, std::vector<uint8_t>(16 * 17 * 3, image.pixels[0])};
  }
  const std::string gif = put("film.gif", encode_moving("film.gif", frames, 150));
  EXPECT_EQ(read(gif, {0, 1, 2}), frames);
  const std::string mp4 = put("film.mp4", encode_moving("film.mp4", frames, 150));
  const std::vector<Image> back = read(mp4, {0, 1, 2});
  ASSERT_EQ(back.size(), 3u);
  for (size_t t = 0; t < 3; ++t) {
    EXPECT_EQ(back[t].width, 18);
    EXPECT_NEAR(back[t].pixels[0], frames[t].pixels[0], 3);
  }
  const std::string webp = encode_moving("film.webp", frames, 150);
  EXPECT_EQ(webp.substr(0, 4), "RIFF");
  EXPECT_NE(webp.find("ANIM"), std::string::npos);
  EXPECT_EQ(encode_moving("film.apng", frames, 150), encode_animation(frames, 150));
}

}  // namespace
}  // namespace lf
