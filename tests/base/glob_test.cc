#include "base/glob.h"

#include <gtest/gtest.h>

namespace lf {
namespace {

TEST(Glob, StarsAndQuestionMarksMatchTheWholeText) {
  for (const auto& [pattern, text] : {std::pair("down.*", "down.0.weight"),
                                      {"*", ""},
                                      {"a?c", "abc"},
                                      {"*temporal*", "x.temporal.out"},
                                      {"*.0.*.b", "a.0.0.c.b"},
                                      {"**b", "aab"},
                                      {"a*b*a", "aba"}}) {
    EXPECT_TRUE(matches_glob(pattern, text)) << pattern << " " << text;
  }
  for (const auto& [pattern, text] : {std::pair("down", "down.0"),
                                      {"own.*", "down.0"},
                                      {"", "a"},
                                      {"a?", "a"},
                                      {"a*b*a", "ab"},
                                      {"*.b", "a.bc"}}) {
    EXPECT_FALSE(matches_glob(pattern, text)) << pattern << " " << text;
  }
}

}  // namespace
}  // namespace lf
