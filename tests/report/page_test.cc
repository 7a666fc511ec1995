// What every page is made of: escaped text, axes, pictures.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "report/html.h"
#include "report/picture.h"
#include "report/plot.h"
#include "report/scale.h"

namespace lf {
namespace {

TEST(Html, TextAndAttributesCannotBecomeElements) {
  Html html;
  html.element("p", {{"title", "\"><script>"}}, "<script>alert('1')</script> & \x01\xff\xc3\xa9");
  EXPECT_EQ(html.html(),
            "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; "
            "&amp; \uFFFD\uFFFD\u00e9</p>");
}

std::vector<std::string> labels(const Scale& scale) {
  std::vector<std::string> out;
  for (const Tick& tick : scale.ticks(5)) out.push_back(tick.label);
  return out;
}

TEST(Scale, TicksAreRoundAndToldApart) {
  EXPECT_EQ(labels(Scale(0, 12800, false)), (std::vector<std::string>{"0", "5k", "10k"}));
  EXPECT_EQ(labels(Scale(25.1, 28.4, false)), (std::vector<std::string>{"26", "27", "28"}));
  EXPECT_EQ(labels(Scale(0.04, 0.13, false)),
            (std::vector<std::string>{"0.04", "0.06", "0.08", "0.10", "0.12"}));
  EXPECT_EQ(labels(Scale(1, 32, true)), (std::vector<std::string>{"1", "2", "5", "10", "20"}));
  EXPECT_EQ(labels(Scale(1e6, 1e12, true)), (std::vector<std::string>{"1M", "100M", "10G", "1T"}));
}

TEST(Scale, DrawsWhatHasNoExtent) {
  for (const auto& [low, high] :
       {std::pair{3.0, 3.0}, std::pair{0.0, 0.0}, std::pair{-1e300, 1e300}, std::pair{5.0, 1.0},
        std::pair{1e15, 1e15 + 1}, std::pair{std::nan(""), std::nan("")},
        std::pair{5e-324, 5e-324}}) {
    for (const bool logarithmic : {false, true}) {
      const Scale scale(low, high, logarithmic);
      EXPECT_LE(scale.ticks(5).size(), 52U);
      EXPECT_TRUE(std::isfinite(scale.place((scale.low() + scale.high()) / 2))) << low;
    }
  }
}

TEST(Scale, NumbersForPeople) {
  EXPECT_EQ(compact_number(999.9), "1k");
  EXPECT_EQ(compact_number(-12800), "-12.8k");
  EXPECT_EQ(compact_number(1e40), "1e+40");
  EXPECT_EQ(with_spread(25.6893, 0.08809), "25.689 ± 0.088");
  EXPECT_EQ(with_spread(0.4065, 0), "0.4065 ± 0");
  EXPECT_EQ(whole_number(251223), "251,223");
}

TEST(Plot, ValuesThatCannotBeDrawnAreLeftOut) {
  Plot plot;
  plot.title = "loss<b>";
  plot.x = "images";
  const double infinite = std::numeric_limits<double>::infinity();
  plot.series = {{"a", {{1, NAN, 0, ""}, {2, infinite, 0, ""}, {3, 1e308, 0, ""}}}};
  EXPECT_FALSE(has_points(plot));
  Html none;
  draw_plot(none, plot);
  EXPECT_EQ(none.html(), "");
  plot.series.push_back({"b", {{1, 2, 0, ""}, {4, 3, 0, ""}}});
  Html some;
  draw_plot(some, plot);
  EXPECT_EQ(some.html().find("nan"), std::string::npos);
  EXPECT_EQ(some.html().find("inf"), std::string::npos);
  EXPECT_NE(some.html().find("loss&lt;b&gt;"), std::string::npos);
}

TEST(Plot, ThinnedPointsAreMeans) {
  std::vector<PlotPoint> points;
  for (int i = 0; i < 10; ++i) points.push_back({i * 1.0, i * 2.0, 0, ""});
  const std::vector<PlotPoint> few = thinned(points, 4);
  ASSERT_EQ(few.size(), 4U);
  EXPECT_EQ(few[0].x, 1);
  EXPECT_EQ(few[0].y, 2);
  EXPECT_EQ(few[3].y, 18);
}

TEST(Picture, Base64) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(Picture, LargeOnesAreShrunkAndDamagedOnesRefused) {
  Image noise = black_image({1, 256, 256, 3});
  uint32_t state = 1;
  for (uint8_t& byte : noise.pixels)
    byte = static_cast<uint8_t>((state = state * 1664525 + 9) >> 24);
  const std::string png = encode_png(noise);
  EXPECT_EQ(png_within(png, png.size(), "it"), png);
  EXPECT_LE(png_within(png, 20000, "it").size(), 20000U);
  EXPECT_THROW(png_within(png.substr(0, 1000), 20000, "it"), Error);
  EXPECT_THROW(png_within("no picture", 20000, "it"), Error);
}

}  // namespace
}  // namespace lf
