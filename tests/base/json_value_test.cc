#include "base/json_value.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"

namespace lf {
namespace {

TEST(JsonValue, ReadsWhatJsonWrites) {
  Json json;
  json.object([&] {
    json.field("name", "a\"b\n\x01\\").field("large", 1e300).field("nothing", NAN);
    json.field("whole", int64_t{-12}).field("yes", true);
    json.array("curve", [&] { json.value(std::vector<double>{0.1, 2}); });
  });
  const auto value = JsonValue::parse(json.text());
  ASSERT_TRUE(value);
  EXPECT_EQ((*value)["name"].text(), "a\"b\n\x01\\");
  EXPECT_EQ((*value)["large"].number(), 1e300);
  EXPECT_TRUE((*value)["nothing"].is_null());
  EXPECT_EQ((*value)["whole"].number(), -12);
  EXPECT_TRUE((*value)["yes"].boolean());
  EXPECT_EQ((*value)["curve"].list().at(0).list().at(0).number(), 0.1);
  EXPECT_TRUE((*value)["absent"].is_null());
  EXPECT_TRUE(std::isnan((*value)["name"].number()));
}

TEST(JsonValue, DecodesEscapesOfUnicode) {
  const auto value = JsonValue::parse(R"("\u0041\u00e9\u20ac\ud83d\ude00\ud83d!\udc00")");
  ASSERT_TRUE(value);
  EXPECT_EQ(value->text(), "A\u00e9\u20ac\U0001F600\uFFFD!\uFFFD");
}

TEST(JsonValue, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", "{", "[1,", "{\"a\":}", "{\"a\" 1}", "nul", "[1] x", "\"a", "\"\\x\"", "\"\\u12\"",
        "inf", "nan", "-", "-inf", "[,]", "{\"a\":1,}", "\"\n\"", "tru"}) {
    EXPECT_FALSE(JsonValue::parse(text)) << text;
  }
}

TEST(JsonValue, BoundsDepthNumberAndRange) {
  EXPECT_FALSE(JsonValue::parse(std::string(100'000, '[')));
  EXPECT_FALSE(JsonValue::parse("[1,2,3,4]", 4));
  EXPECT_TRUE(JsonValue::parse("[1,2,3,4]", 5));
  EXPECT_TRUE(std::isinf(JsonValue::parse("-1e999")->number()));
  EXPECT_LT(JsonValue::parse("-1e999")->number(), 0);
  EXPECT_EQ(JsonValue::parse("1e-999")->number(), 0);
}

}  // namespace
}  // namespace lf
