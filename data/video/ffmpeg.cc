#include "data/video/ffmpeg.h"

#include <dlfcn.h>

#include <array>
#include <cstdarg>
#include <cstdio>

#include "base/error.h"
#include "data/video/support.h"

namespace lf {
namespace {

thread_local std::string remark;

// Nothing of it reaches stderr: a message about a file is that of its item.
void keep_remark(void* /*who*/, int level, const char* format, va_list values) {
  if (level > AV_LOG_ERROR) return;
  std::array<char, 200> text{};
  std::vsnprintf(text.data(), text.size(), format, values);
  remark = text.data();
  while (!remark.empty() && (remark.back() == '\n' || remark.back() == '.')) remark.pop_back();
}

struct Opened {
  Ffmpeg calls;
  std::string problem;
};

Opened open_libraries() {
  Opened opened;
  const auto open = [&](const char* name, int version) {
    const std::string file = str("lib", name, ".so.", version);
    void* library = ::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);  // never closed
    if (library == nullptr && opened.problem.empty()) opened.problem = ::dlerror();
    return library;
  };
  void* avutil = open("avutil", LIBAVUTIL_VERSION_MAJOR);
  void* avcodec = open("avcodec", LIBAVCODEC_VERSION_MAJOR);
  void* avformat = open("avformat", LIBAVFORMAT_VERSION_MAJOR);
  if (!opened.problem.empty()) return opened;
#define LF_LOOK_UP(library, function)                                                           \
  opened.calls.function = reinterpret_cast<decltype(&::function)>(::dlsym(library, #function)); \
  if (opened.calls.function == nullptr) opened.problem = "there is no function " #function;
  LF_FFMPEG_CALLS(LF_LOOK_UP)
#undef LF_LOOK_UP
  if (!opened.problem.empty()) return opened;
  opened.calls.av_log_set_callback(keep_remark);
  return opened;
}

const Opened& opened() {
  static const Opened libraries = open_libraries();
  return libraries;
}

}  // namespace

const Ffmpeg& ffmpeg() {
  if (!opened().problem.empty()) {
    fail(Code::kUsage,
         "videos need FFmpeg's libraries, which this program was built for: ", opened().problem,
         "; install libavformat and libavcodec of version ", LIBAVFORMAT_VERSION_MAJOR);
  }
  return opened().calls;
}

std::string video_support() {
  if (!opened().problem.empty()) return "";
  const unsigned version = opened().calls.avutil_version();
  return str("FFmpeg, libavutil ", version >> 16, ".", version >> 8 & 255, ".", version & 255);
}

void require_video_support() { ffmpeg(); }

std::string ffmpeg_remark() { return remark.empty() ? "" : " (" + printable(remark) + ")"; }
void forget_ffmpeg_remark() { remark.clear(); }

std::string ffmpeg_reason(int error) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  ffmpeg().av_strerror(error, text.data(), text.size());
  return text.data();
}

}  // namespace lf
