// Videos in a program that was built without FFmpeg: every call says so.
#include "base/error.h"
#include "data/video/film.h"
#include "data/video/support.h"
#include "data/video/video_file.h"

namespace lf {

class VideoReader::Decoding {};

std::string video_support() { return ""; }

void require_video_support() {
  fail(Code::kUsage,
       "this program was built without FFmpeg, which videos need; install libavformat-dev, "
       "libavcodec-dev and libavutil-dev and run ./launch/setup again, or take folders of frames "
       "(source.frames) and .apng");
}

VideoSummary summary_of_video(const std::string&, const VideoLimits&, const std::string&) {
  require_video_support();
  return {};
}

VideoReader::VideoReader(const std::string&, const VideoLimits&, const std::string&, uint64_t) {
  require_video_support();
}
VideoReader::~VideoReader() = default;
uint64_t VideoReader::position() const { return 0; }
void VideoReader::read(std::span<const uint64_t>, const std::function<void(Image)>&) {}

void check_film(const std::string& path) {
  if (is_film(path)) require_video_support();
}

std::string encode_film(const std::string&, std::span<const Image>, int) {
  require_video_support();
  return {};
}

}  // namespace lf
