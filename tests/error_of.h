// The Error that a call throws, for the tests of every folder.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace lf {

template <typename Body>
std::string error_of(Code code, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace lf
