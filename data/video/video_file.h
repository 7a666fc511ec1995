// Video files from untrusted bytes: the frames that a decoder gives, in the order of presentation,
// by their number from 0, upright. Frame i is the same however it is reached. One thread decodes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "data/image/image.h"

namespace lf {

struct VideoLimits {
  uint64_t pixels = 64'000'000;  // of a frame
  uint64_t frames = 1 << 22;
};

struct VideoSummary {
  ImageSize size;  // of the upright frames, by the container's header; 0 where it has none
  uint64_t frames = 0;
};

// Counts the frames without decoding any. Throws Code::kData if this is no video that is read.
VideoSummary summary_of_video(const std::string& path, const VideoLimits& limits,
                              const std::string& name);

// An open decoder, for one thread at a time.
class VideoReader {
 public:
  // `frames` is the number of the summary.
  VideoReader(const std::string& path, const VideoLimits& limits, const std::string& name,
              uint64_t frames);
  ~VideoReader();

  // The first frame that reading on gives; earlier ones are decoded anew from a key frame.
  uint64_t position() const;

  // Decodes these frames, rising. Throws Code::kData for one that is damaged or missing; others can
  // be read then.
  void read(std::span<const uint64_t> frames, const std::function<void(Image)>& take);

 private:
  class Decoding;
  std::unique_ptr<Decoding> decoding_;
};

}  // namespace lf
