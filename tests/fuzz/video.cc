// Fuzzes video files: containers, codecs and the way to each frame, with small limits.
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "data/video/video_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string path = "/dev/shm/lastframe-fuzz-" + std::to_string(::getpid());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
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
