// Fuzzes video files: containers, codecs and the way to each frame, with small limits.
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "data/video/video_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = ::memfd_create("fuzz", 0);  // has a path, and is gone with the process
  LF_CHECK(::ftruncate(file, 0) == 0 && ::pwrite(file, data, size, 0) == ssize_t(size));
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  try {
    const lf::VideoLimits limits{.pixels = 1 << 14, .frames = 64};
    const lf::VideoSummary summary = lf::summary_of_video(path, limits, "fuzz");
    lf::VideoReader reader(path, limits, "fuzz", summary.frames);
    for (const uint64_t frame : {uint64_t{0}, summary.frames - 1, summary.frames / 2}) {
      reader.read({&frame, 1}, [](const lf::Image& image) {
        LF_CHECK(image.pixels.size() == image.shape().bytes());
      });
    }
  } catch (const lf::Error& error) {
    if (error.code() != lf::Code::kData) throw;
  }
  return 0;
}
