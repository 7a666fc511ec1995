// Cuts work on files off at one chosen operation: by an error of the device, by the death of the
// process, or by a power cut that drops what was not synced.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/faulty_file.h"

namespace lf {

enum class Cut { kError, kKill, kPower };

inline const auto kEveryCut = ::testing::Values(Cut::kError, Cut::kKill, Cut::kPower);

inline std::string name_of_cut(const ::testing::TestParamInfo<Cut>& info) {
  return info.param == Cut::kError  ? "ByAnError"
         : info.param == Cut::kKill ? "ByAKill"
                                    : "ByAPowerCut";
}

constexpr uint64_t kNever = ~uint64_t{0};

struct CutOff {
  bool finished = false;
  uint64_t operations = 0;
};

// work(files), with operation `number` of `files` failing.
template <typename Work>
CutOff cut_off(Cut cut, uint64_t number, Work&& work) {
  FaultyFileSystem files([&](const FileOperation& operation) {
    if (operation.number != number) return true;
    if (cut == Cut::kError) throw Error(Code::kStorage, "no space left on device");
    return false;
  });
  CutOff result;
  try {
    work(files);
    result.finished = true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kStorage) << error.what();
  } catch (const FaultyFileSystem::PowerCut&) {
  }
  result.operations = files.operations();
  if (cut == Cut::kPower) files.power_cut();
  return result;
}

}  // namespace lf
