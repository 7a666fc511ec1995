// The file around a video: its packets and what they tell of the frames, without decoding. Internal
// to data/video.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/video/ffmpeg.h"
#include "data/video/video_file.h"

namespace lf {

class Container {
 public:
  // Throws Code::kData, beginning with `name`, for what is no mp4, avi, mkv, webm or gif, holds no
  // video of a codec that is read, or frames beyond the limits.
  Container(const std::string& path, const VideoLimits& limits, const std::string& name);
  ~Container();

  AVStream& stream() const { return *stream_; }
  const AVCodecParameters& codec() const { return *stream_->codecpar; }
  int orientation() const { return orientation_; }  // as EXIF counts it

  // The next packet of the video that is not empty; false at the end. Throws Code::kData where the
  // file breaks off.
  bool read(AVPacket& packet);
  // To a key frame at or before this time of decoding. Returns whether the format can.
  bool seek(int64_t time);

  // Do packets carry the time at which their frame is shown, and does a key frame need nothing
  // before it? Otherwise frames are counted from the first.
  bool has_times() const;
  // May decoding start here?
  bool is_start(const AVPacket& packet) const;
  // Does a frame come of it that is shown?
  bool is_shown(const AVPacket& packet) const;
  // By an index of the whole file; 0 if there is none.
  uint64_t frames_by_index() const;

 private:
  struct Reading;
  void open(const std::string& path, const VideoLimits& limits);
  void choose_stream();
  void check(const VideoLimits& limits) const;

  std::string name_, format_;
  std::unique_ptr<Reading> reading_;
  FfmpegPointer<AVIOContext> io_;
  FfmpegPointer<AVFormatContext> context_;
  AVStream* stream_ = nullptr;
  int orientation_ = 1;
};

// The packets of a video in which every packet tells its time.
struct FrameTable {
  static constexpr uint64_t kUnknown = UINT64_MAX;
  struct Entry {
    int64_t time;
    uint64_t packet;  // its number in the file
    bool operator<(const Entry& other) const { return time < other.time; }
  };
  struct Start {
    uint64_t packet;
    int64_t time, decoding_time;
  };
  std::vector<Entry> shown, all;  // by time
  std::vector<Start> starts;      // where decoding may start, by packet; the first packet always
  // A file that breaks off may have lost frames that are shown before the last ones it has.
  bool breaks_off = false;

  // The number of the packet, or of the frame, of this time; kUnknown if there is none.
  uint64_t packet_at(int64_t time) const;
  uint64_t frame_at(int64_t time) const;
  // The last one from which the frame can be decoded.
  const Start& start_of(uint64_t frame) const;
};

// Reads all packets. Nothing if the frames must be counted.
std::optional<FrameTable> table_of(Container& container);

FfmpegPointer<AVPacket> new_packet();

}  // namespace lf
