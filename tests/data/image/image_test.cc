// Decoding, refusing and encoding pictures. Fixtures come from tools/fixtures/make_images.py.
#include "data/image/image.h"

#include <gtest/gtest.h>
#include <png.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "data/image/resize.h"

namespace lf {
namespace {

std::string fixture(const std::string& name) {
  return read_file(real_file_system(), std::string(LF_FIXTURES) + "/images/" + name, 1 << 20);
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Image decode(const std::string& name) { return decode_image(bytes_of(fixture(name)), {}, name); }

// What the refusal says; "" if the bytes were accepted.
std::string refusal(const std::string& bytes, const ImageLimits& limits = {}) {
  try {
    decode_image(bytes_of(bytes), limits, "x");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kData);
    return error.what();
  }
  return "";
}

// The same ramps as the fixtures' picture().
Image picture(int h, int w) {
  Image image{h, w, 3, {}};
  for (int y = 0; y < h; ++y) {
    for (int x = 0; x < w; ++x) {
      const bool corner = y < h / 4 && x < w / 4;
      const int values[3] = {x * 200 / (w - 1), y * 200 / (h - 1), (x + y) * 150 / (h + w - 2)};
      for (const int v : values) image.pixels.push_back(static_cast<uint8_t>(corner ? 250 : v));
    }
  }
  return image;
}

int largest_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.channels, b.channels);
  if (a.pixels.size() != b.pixels.size()) return 256;
  int most = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  }
  return most;
}

TEST(Image, JpegPixelsAreThoseOfAnIndependentDecoder) {
  for (const char* name : {"rgb.jpg", "rgb444.jpg", "progressive.jpg", "grey.jpg"}) {
    const std::string expected = fixture(std::string(name) + ".raw");
    const Image image = decode(name);
    EXPECT_EQ(image.channels, std::string(name) == "grey.jpg" ? 1 : 3);
    ASSERT_EQ(image.pixels.size(), expected.size()) << name;
    EXPECT_EQ(std::memcmp(image.pixels.data(), expected.data(), expected.size()), 0) << name;
  }
}

TEST(Image, CmykJpegIsConverted) {
  EXPECT_LE(largest_difference(decode("cmyk.jpg"), picture(24, 32)), 40);
}

TEST(Image, PngPixelsAreExact) {
  EXPECT_EQ(decode("rgb.png"), picture(24, 32));
  EXPECT_EQ(decode("grey.png"), with_channels(picture(24, 32), 1));
  EXPECT_EQ(decode("animated.png"), picture(24, 32)) << "the default image of an animation";
}

TEST(Image, WebpIsReadOrNamed) {
  if (!decodes_webp()) {
    EXPECT_NE(refusal(fixture("rgb.webp")).find("built without libwebp"), std::string::npos);
    return;
  }
  EXPECT_EQ(decode("rgb.webp"), picture(24, 32));
  EXPECT_EQ(decode("alpha.webp"), decode("alpha.png"));
  EXPECT_EQ(decode("exif6.webp"), decode("exif6.png"));
  EXPECT_EQ(size_in_header(bytes_of(fixture("exif6.webp"))), (ImageSize{32, 24}));
  const std::string expected = fixture("lossy.webp.raw");
  const Image lossy = decode("lossy.webp");
  ASSERT_EQ(lossy.pixels.size(), expected.size());
  EXPECT_EQ(std::memcmp(lossy.pixels.data(), expected.data(), expected.size()), 0);
  EXPECT_NE(refusal(fixture("animated.webp")).find("an animation"), std::string::npos);
  EXPECT_NE(refusal(fixture("rgb.webp"), {.pixels = 767}).find("max_megapixels"),
            std::string::npos);
  for (const char* name : {"rgb.webp", "lossy.webp"}) {
    const std::string whole = fixture(name);
    for (size_t length = 0; length + 1 < whole.size(); ++length) {  // the last byte may be padding
      EXPECT_NE(refusal(whole.substr(0, length)), "") << name << " cut to " << length;
    }
  }
}

TEST(Image, OnePixelIsAnImage) {
  EXPECT_EQ(decode("one.png").pixels.size(), 3u);
  EXPECT_EQ(decode("one.jpg").pixels.size(), 3u);
  EXPECT_EQ(decode("interlaced.png").pixels, (std::vector<uint8_t>{10, 20, 30}));
}

TEST(Image, PaletteAndBilevelAreExpanded) {
  EXPECT_EQ(decode("palette.png").channels, 3);
  EXPECT_LE(largest_difference(decode("palette.png"), picture(24, 32)), 80);
  const Image bilevel = decode("bilevel.png");
  EXPECT_EQ(bilevel.channels, 1);
  for (const uint8_t value : bilevel.pixels) EXPECT_TRUE(value == 0 || value == 255);
}

TEST(Image, SixteenBitsAreRoundedToEight) {
  const Image grey = decode("grey16.png"), rgb = decode("rgb16.png");
  ASSERT_EQ(grey.channels, 1);
  ASSERT_EQ(rgb.channels, 3);
  for (int i = 0; i < 24 * 32; ++i) {
    const int sixteen = i * 85;
    const auto expected = static_cast<uint8_t>((sixteen * 255 + 32767) / 65535);
    EXPECT_EQ(grey.pixels[static_cast<size_t>(i)], expected);
    EXPECT_EQ(rgb.pixels[static_cast<size_t>(3 * i)], expected);
  }
}

TEST(Image, AlphaIsPutOverWhite) {
  const Image image = decode("alpha.png"), opaque = picture(24, 32);
  for (int i = 0; i < 24 * 32; ++i) {
    const int alpha = i % 32 * 255 / 31;
    for (int k = 0; k < 3; ++k) {
      const size_t at = static_cast<size_t>(3 * i + k);
      EXPECT_NEAR(image.pixels[at], (opaque.pixels[at] * alpha + 255 * (255 - alpha)) / 255.0,
                  1.01);
    }
  }
  EXPECT_EQ(decode("grey_alpha.png").channels, 1);
  EXPECT_EQ(decode("grey_alpha.png").pixels[0], 255) << "transparent is white";
  EXPECT_EQ(decode("palette_alpha.png").channels, 3);
}

TEST(Image, ExifTurnsEveryOrientationUpright) {
  const Image stored = decode("exif1.jpg");
  ASSERT_EQ(stored.height, 24);
  for (int orientation = 2; orientation <= 8; ++orientation) {
    const Image turned = decode(str("exif", orientation, ".jpg"));
    EXPECT_EQ(turned, turn_upright(stored, orientation));
    EXPECT_EQ(turned.height, orientation >= 5 ? 32 : 24);
  }
  EXPECT_EQ(decode("exif6.png"), turn_upright(decode("rgb.png"), 6));
}

TEST(Image, TurnsComposeAsTheGroupTheyAre) {
  const Image image = picture(5, 7);
  const auto turn = [](const Image& i, int o) { return turn_upright(i, o); };
  for (const int own_inverse : {2, 3, 4, 5, 7}) {
    EXPECT_EQ(turn(turn(image, own_inverse), own_inverse), image) << own_inverse;
  }
  EXPECT_EQ(turn(turn(image, 6), 8), image);
  EXPECT_EQ(turn(turn(image, 6), 6), turn(image, 3));
  EXPECT_EQ(turn(turn(image, 2), 4), turn(image, 3));
  // Orientation 6: the stored left column, read from below, is the upper row.
  EXPECT_EQ(turn(image, 6).pixels[0], image.pixels[4 * 7 * 3]);
  // Orientation 5 is the transpose.
  EXPECT_EQ(turn(image, 5).pixels[3], image.pixels[7 * 3]);
}

TEST(Image, BrokenExifIsIgnored) {
  EXPECT_EQ(decode("exif_broken.jpg"), decode("exif1.jpg"));
  const std::string tiff =
      std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0", 22);
  EXPECT_EQ(exif_orientation(bytes_of(tiff)), 6);
  for (size_t length = 0; length < tiff.size(); ++length) {
    EXPECT_EQ(exif_orientation(bytes_of(tiff.substr(0, length))), 1) << length;
  }
  std::string nine = tiff;
  nine[19] = 9;
  EXPECT_EQ(exif_orientation(bytes_of(nine)), 1);
}

TEST(Image, HugeSizesAreRefusedBeforeTheyAreAllocated) {
  for (const char* name : {"huge.jpg", "huge.png"}) {
    EXPECT_NE(refusal(fixture(name)).find("65500x65500"), std::string::npos) << name;
  }
  EXPECT_NE(refusal(fixture("promises.png")).find("more than a file of this length"),
            std::string::npos);
  EXPECT_NE(refusal(fixture("rgb.png"), {.pixels = 767}).find("max_megapixels"), std::string::npos);
  EXPECT_EQ(refusal(fixture("rgb.png"), {.pixels = 768}), "");
  EXPECT_NE(refusal(fixture("rgb.jpg"), {.side = 31}), "");
}

TEST(Image, HugeColourProfileIsSkipped) {
  EXPECT_EQ(decode("huge_profile.png"), decode("rgb.png"));
}

TEST(Image, FileOfManyScansIsRefused) {
  EXPECT_NE(refusal(fixture("many_scans.jpg")).find("scans"), std::string::npos);
}

TEST(Image, WhatIsNotAnImageIsNamed) {
  EXPECT_NE(refusal(fixture("text.jpg")).find("something else"), std::string::npos);
  EXPECT_NE(refusal(fixture("animated.gif")).find("a GIF"), std::string::npos);
  EXPECT_NE(refusal("").find("empty"), std::string::npos);
}

TEST(Image, EveryTruncationIsRefused) {
  for (const char* name :
       {"rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png", "palette_alpha.png"}) {
    const std::string whole = fixture(name);
    for (size_t length = 0; length < whole.size(); ++length) {
      EXPECT_NE(refusal(whole.substr(0, length)), "") << name << " cut to " << length;
    }
  }
  EXPECT_NE(refusal(fixture("no_end.png")), "");
}

TEST(Image, DamageIsRefusedOrHarmlessNeverACrash) {
  for (const char* name :
       {"rgb.jpg", "progressive.jpg", "rgb.png", "exif6.jpg", "lossy.webp", "exif6.webp"}) {
    const std::string whole = fixture(name);
    for (uint64_t trial = 0; trial < 400; ++trial) {
      std::string damaged = whole;
      const Stream stream{.seed = 1, .purpose = Purpose::kSampling, .a = trial};
      for (uint64_t k = 0; k < 1 + trial % 4; ++k) {
        damaged[random_below(stream, 2 * k, whole.size())] =
            static_cast<char>(random_below(stream, 2 * k + 1, 256));
      }
      refusal(damaged);  // either way; the sanitizers watch
    }
  }
}

TEST(Image, PngRoundTripIsExact) {
  for (const Image& image : {picture(24, 32), with_channels(picture(7, 5), 1), decode("noisy.png"),
                             Image{1, 1, 3, {1, 2, 3}}}) {
    EXPECT_EQ(decode_image(bytes_of(encode_png(image)), {}, "x"), image);
  }
}

// libpng's own simple interface reads what we wrote: an independent check of the encoder.
TEST(Image, LibpngReadsOurFiles) {
  const Image image = picture(24, 32);
  const std::string file = encode_png(image);
  png_image reader{};
  reader.version = PNG_IMAGE_VERSION;
  ASSERT_TRUE(png_image_begin_read_from_memory(&reader, file.data(), file.size()));
  reader.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(reader));
  ASSERT_TRUE(png_image_finish_read(&reader, nullptr, pixels.data(), 0, nullptr));
  EXPECT_EQ(pixels, image.pixels);
}

TEST(Image, AnimationHoldsEveryFrameInOrder) {
  const std::vector<Image> frames = {picture(6, 8), turn_upright(picture(6, 8), 3), picture(6, 8)};
  const std::string file = encode_animation(frames, 40);
  EXPECT_EQ(decode_image(bytes_of(file), {}, "x"), frames[0]);
  // Chunk by chunk: each frame's data, put into a still file, is that frame.
  std::vector<std::string> order;
  size_t at = 8, frame = 0;
  const auto number = [&](size_t place) {
    const auto* p = reinterpret_cast<const uint8_t*>(file.data()) + place;
    return size_t{p[0]} << 24 | size_t{p[1]} << 16 | size_t{p[2]} << 8 | p[3];
  };
  while (at < file.size()) {
    const size_t length = number(at);
    const std::string type = file.substr(at + 4, 4);
    order.push_back(type);
    if (type == "acTL") {
      EXPECT_EQ(number(at + 8), 3u);
    }
    if (type == "IDAT" || type == "fdAT") {
      const std::string still = encode_png(frames[frame++]);
      const std::string data =
          file.substr(at + (type == "IDAT" ? 8 : 12), length - (type == "IDAT" ? 0 : 4));
      EXPECT_NE(still.find(data), std::string::npos);
    }
    at += 12 + length;
  }
  EXPECT_EQ(order, (std::vector<std::string>{"IHDR", "acTL", "fcTL", "IDAT", "fcTL", "fdAT", "fcTL",
                                             "fdAT", "IEND"}));
}

TEST(Image, HeadersTellTheSizeOfTheUprightImage) {
  size_t images = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LF_FIXTURES "/images")) {
    const std::string name = entry.path().filename().string(), bytes = fixture(name);
    if (!refusal(bytes).empty()) continue;
    ++images;
    const Image image = decode(name);
    EXPECT_EQ(size_in_header(bytes_of(bytes)), (ImageSize{image.height, image.width})) << name;
    EXPECT_EQ(size_in_header(bytes_of(bytes).first(12)), std::nullopt) << name;
  }
  EXPECT_GT(images, 10U);
}

TEST(Image, GreyWeightsAddUp) {
  EXPECT_EQ(with_channels(Image{1, 1, 3, {255, 255, 255}}, 1).pixels[0], 255);
  EXPECT_EQ(with_channels(Image{1, 1, 3, {255, 0, 0}}, 1).pixels[0], 76);
  EXPECT_EQ(with_channels(Image{1, 1, 1, {9}}, 3).pixels, (std::vector<uint8_t>{9, 9, 9}));
}

TEST(Resize, EqualsPillowBitForBit) {
  const Image noisy = decode("noisy.png");
  const Box all{0, 0, noisy.width, noisy.height};
  for (const auto& [h, w] : {std::pair{16, 16}, {37, 20}, {9, 53}, {64, 80}, {5, 7}, {1, 1}}) {
    const std::string expected = fixture(str("noisy_", h, "x", w, ".raw"));
    const Image resized = resize(noisy, all, h, w);
    ASSERT_EQ(resized.pixels.size(), expected.size());
    EXPECT_EQ(std::memcmp(resized.pixels.data(), expected.data(), expected.size()), 0)
        << h << "x" << w;
  }
  const std::string expected = fixture("noisy_box_12x12.raw");
  const Image boxed = resize(noisy, {8, 3, 30, 30}, 12, 12);
  EXPECT_EQ(std::memcmp(boxed.pixels.data(), expected.data(), expected.size()), 0);
}

TEST(Resize, OtherFiltersEqualPillowBitForBit) {
  const Image noisy = decode("noisy.png");
  const Box all{0, 0, noisy.width, noisy.height};
  for (const auto filter : {SourceConfig::BOX, SourceConfig::BICUBIC, SourceConfig::LANCZOS}) {
    for (const auto& [h, w] : {std::pair{16, 16}, {64, 80}, {5, 53}}) {
      const std::string name =
          str("noisy_", SourceConfig::Filter_Name(filter), "_", h, "x", w, ".raw");
      const Image resized = resize(noisy, all, h, w, filter);
      EXPECT_EQ(std::string(resized.pixels.begin(), resized.pixels.end()), fixture(name)) << name;
    }
  }
}

TEST(Resize, AdmSquaresEqualTheirsBitForBit) {
  const Image noisy = decode("noisy.png");
  for (const int side : {8, 16, 37, 40}) {
    const Image square = adm_square(noisy, side);
    EXPECT_EQ(std::string(square.pixels.begin(), square.pixels.end()),
              fixture(str("noisy_ADM_", side, ".raw")))
        << side;
  }
}

TEST(Resize, ConstantStaysConstant) {
  for (const int channels : {1, 3}) {
    Image flat{91, 57, channels, {}};
    flat.pixels.assign(static_cast<size_t>(91 * 57 * channels), 200);
    for (const int side : {1, 8, 32, 100}) {
      for (const uint8_t value : resize(flat, {0, 0, 57, 91}, side, side).pixels)
        ASSERT_EQ(value, 200);
    }
  }
}

TEST(Resize, CentredBoxHasTheProportionsAsked) {
  const auto box = [](int h, int w, int to_h, int to_w) {
    const Box b = centred_box(Image{h, w, 1, {}}, to_h, to_w);
    return std::vector<int>{b.left, b.top, b.width, b.height};
  };
  EXPECT_EQ(box(375, 500, 64, 64), (std::vector<int>{62, 0, 375, 375}));
  EXPECT_EQ(box(500, 375, 64, 64), (std::vector<int>{0, 62, 375, 375}));
  EXPECT_EQ(box(240, 432, 64, 64), (std::vector<int>{96, 0, 240, 240}));
  EXPECT_EQ(box(100, 100, 32, 64), (std::vector<int>{0, 25, 100, 50}));
  EXPECT_EQ(box(1, 30000, 64, 64), (std::vector<int>{14999, 0, 1, 1}));
}

}  // namespace
}  // namespace lf
