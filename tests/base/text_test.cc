#include "base/text.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/json.h"

namespace lf {
namespace {

TEST(Text, SizesDurationsCountsAndRatesAreReadable) {
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(uint64_t{200} << 30), "200 GiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(human_seconds(9.96), "10.0s");
  EXPECT_EQ(human_seconds(125), "2m05s");
  EXPECT_EQ(human_seconds(86400 + 3600 * 2), "1d02h");
  EXPECT_EQ(human_seconds(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_rate(12345.6), "12,346/s");
  EXPECT_EQ(human_rate(9.876), "9.88/s");
  EXPECT_EQ(human_rate(0.00421), "0.00421/s");
  EXPECT_EQ(human_rate(0), "0/s");
  EXPECT_EQ(human_rate(std::numeric_limits<double>::quiet_NaN()), "?");
}

TEST(Text, SplittingAndJoiningAreInverse) {
  for (const std::string text : {"", "a", "a,b", ",a,,b,"}) {
    EXPECT_EQ(join(split(text, ','), ","), text);
  }
  EXPECT_EQ(split("a,,b", ',').size(), 3);
}

TEST(Text, OnlyNearNamesAreProposed) {
  const std::vector<std::string> names = {"recipe.blur", "recipe.noise", "train.batch"};
  EXPECT_EQ(nearest("recipe.nose", names), "recipe.noise");
  EXPECT_EQ(nearest("zzzzzzzzzzz", names), "");
  EXPECT_EQ(did_you_mean("train.bach", names), ", did you mean 'train.batch'?");
  EXPECT_EQ(did_you_mean("", names), "");
}

// One line, and UTF-8, whatever comes in; what was readable stays so.
TEST(Text, HostileNamesBecomePrintable) {
  EXPECT_EQ(printable("Grüße 日本"), "Grüße 日本");
  EXPECT_EQ(printable("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  // Overlong, a surrogate, beyond the last code point, cut off.
  for (const std::string wrong : {"\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE6\x97"}) {
    EXPECT_FALSE(valid_utf8(wrong));
    EXPECT_TRUE(valid_utf8(printable(wrong)));
    EXPECT_EQ(printable(wrong).size(), 4 * wrong.size());
  }
  const std::string cut = printable(std::string(1000, 'x') + "end");
  EXPECT_LE(cut.size(), 203);
  EXPECT_TRUE(cut.ends_with("end"));
  // Cut in the middle of a letter.
  std::string letters;
  while (letters.size() < 999) letters += "日";
  EXPECT_TRUE(valid_utf8(printable(letters)));
}

TEST(Text, NumbersAreReadWholeOrNotAtAll) {
  int64_t whole = 0;
  uint64_t natural = 0;
  double real = 0;
  EXPECT_TRUE(parse("-9223372036854775808", &whole));
  EXPECT_EQ(whole, INT64_MIN);
  EXPECT_TRUE(parse("18446744073709551615", &natural));
  EXPECT_EQ(natural, UINT64_MAX);
  EXPECT_TRUE(parse("1e-3", &real));
  EXPECT_EQ(real, 1e-3);
  for (const char* wrong : {"", " 1", "1 ", "1x", "0x10", "9223372036854775808"}) {
    EXPECT_FALSE(parse(wrong, &whole)) << wrong;
  }
  EXPECT_FALSE(parse("-1", &natural));
  EXPECT_FALSE(parse("1,5", &real));
}

TEST(Json, KeepsNumbersAndEscapesText) {
  Json json;
  json.object([&] {
    json.field("a\"\n", std::string("\x01\xFF"))
        .field("big", UINT64_MAX)
        .field("nan", std::numeric_limits<double>::quiet_NaN());
    json.array("empty", [] {}).field("list", std::vector<int>{1, 2}).field("third", 1.0 / 3);
  });
  EXPECT_EQ(json.text(),
            "{\"a\\\"\\n\":\"\\u0001\\ufffd\",\"big\":18446744073709551615,\"nan\":null,"
            "\"empty\":[],\"list\":[1,2],\"third\":0.3333333333333333}");
}

TEST(Json, MembersOfWhatItWroteAreReadBack) {
  const std::string text =
      R"({"images":64,"inner":{"loss":1,"list":[{"loss":2}]},"note":"a,\"loss\":3}","loss":0.5})";
  EXPECT_EQ(json_member(text, "images"), "64");
  EXPECT_EQ(json_member(text, "loss"), "0.5") << "not one of an inner object";
  EXPECT_EQ(json_member(json_member(text, "inner"), "loss"), "1");
  EXPECT_EQ(json_member(text, "note"), R"(a,\"loss\":3})");
  EXPECT_EQ(json_member(text, "absent"), "");
  EXPECT_EQ(json_members(text).size(), 4U);
  EXPECT_EQ(json_members(text)[1].first, "inner");
  for (size_t cut = 0; cut < text.size(); ++cut) json_member(text.substr(0, cut), "loss");
  for (const char* other : {"", "{", "{}", "[1,2]", "no"})
    EXPECT_EQ(json_member(other, "loss"), "");
}

}  // namespace
}  // namespace lf
