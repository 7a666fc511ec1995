// Decoding: from a key frame on, or from the first frame where only that is exact.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/video/container.h"
#include "data/video/raw_picture.h"

namespace lf {
namespace {

constexpr uint64_t kUnknown = FrameTable::kUnknown;

FfmpegPointer<AVCodecContext> open_decoder(const Container& container, const VideoLimits& limits,
                                           const std::string& name) {
  const Ffmpeg& f = ffmpeg();
  const AVCodec* codec = f.avcodec_find_decoder(container.codec().codec_id);
  if (codec == nullptr) {
    fail(Code::kData, name, ": the FFmpeg at hand has no decoder of ",
         f.avcodec_get_name(container.codec().codec_id));
  }
  FfmpegPointer<AVCodecContext> decoder(f.avcodec_alloc_context3(codec));
  LF_CHECK(decoder != nullptr);
  int status = f.avcodec_parameters_to_context(decoder.get(), &container.codec());
  decoder->thread_count = 1;
  decoder->max_pixels = static_cast<int64_t>(limits.pixels);
  decoder->pkt_timebase = container.stream().time_base;
  // The same bits on every CPU, and cropped where the stream says, not where memory is aligned.
  decoder->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_UNALIGNED;
  // H.264 then waits as long for frames out of order as the level allows, instead of guessing.
  if (codec->id == AV_CODEC_ID_H264) decoder->strict_std_compliance = FF_COMPLIANCE_STRICT;
  if (status >= 0) status = f.avcodec_open2(decoder.get(), codec, nullptr);
  if (status < 0) {
    fail(Code::kData, name, ": it cannot be decoded: ", ffmpeg_reason(status));
  }
  return decoder;
}

LumaWeights luma_of(const AVFrame& frame, const std::string& name) {
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709:
      return kBt709;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return kBt2020;
    case AVCOL_SPC_FCC:
      return kFcc;
    case AVCOL_SPC_SMPTE240M:
      return kSmpte240;
    case AVCOL_SPC_UNSPECIFIED:  // as FFmpeg takes it, whatever the size
    case AVCOL_SPC_RESERVED:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
      return kBt601;
    default:
      fail(Code::kData, name, ": its colour matrix is number ", static_cast<int>(frame.colorspace),
           ", which is not read; convert it, to BT.709 for example");
  }
}

void place_chroma(const AVFrame& frame, RawPicture& picture) {
  const AVChromaLocation at = frame.chroma_location;
  picture.chroma_at_left =
      at != AVCHROMA_LOC_CENTER && at != AVCHROMA_LOC_TOP && at != AVCHROMA_LOC_BOTTOM;
  picture.chroma_at_top = at == AVCHROMA_LOC_TOPLEFT || at == AVCHROMA_LOC_TOP;
}

// The colours of a palette, a plane each of R, G, B and alpha in turn.
std::vector<uint8_t> without_palette(const AVFrame& frame) {
  std::vector<uint8_t> pixels;
  for (int y = 0; y < frame.height; ++y) {
    for (int x = 0; x < frame.width; ++x) {
      const uint8_t index = frame.data[0][y * frame.linesize[0] + x];
      const uint32_t argb = reinterpret_cast<const uint32_t*>(frame.data[1])[index];
      for (const int shift : {16, 8, 0, 24}) pixels.push_back(static_cast<uint8_t>(argb >> shift));
    }
  }
  return pixels;
}

Image palette_image(const AVFrame& frame) {
  const std::vector<uint8_t> pixels = without_palette(frame);
  RawPicture picture{.height = frame.height, .width = frame.width, .planes = {}, .alpha = true};
  for (size_t c = 0; c < 4; ++c) picture.planes[c] = {pixels.data() + c, 4 * frame.width, 4};
  return to_image(picture);
}

Image image_of(const AVFrame& frame, const std::string& name) {
  const AVPixFmtDescriptor* format =
      ffmpeg().av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  LF_CHECK(format != nullptr);
  if ((format->flags & AV_PIX_FMT_FLAG_PAL) != 0) return palette_image(frame);
  constexpr uint64_t kOther = AV_PIX_FMT_FLAG_BE | AV_PIX_FMT_FLAG_BITSTREAM |
                              AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER |
                              AV_PIX_FMT_FLAG_FLOAT;
  bool readable = (format->flags & kOther) == 0;
  RawPicture picture;
  picture.height = frame.height;
  picture.width = frame.width;
  const int colours = format->nb_components < 3 ? 1 : 3;
  picture.alpha = (format->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
  picture.kind = colours == 1                                 ? RawPicture::Kind::kGrey
                 : (format->flags & AV_PIX_FMT_FLAG_RGB) != 0 ? RawPicture::Kind::kRgb
                                                              : RawPicture::Kind::kYuv;
  for (int c = 0; c < format->nb_components; ++c) {
    const AVComponentDescriptor& component = format->comp[c];
    readable = readable && component.depth >= 8 && component.depth + component.shift <= 16;
    // Of grey with alpha, alpha is the second.
    picture.planes[static_cast<size_t>(c < colours ? c : 3)] = {
        frame.data[component.plane] + component.offset, frame.linesize[component.plane],
        component.step, component.depth, component.shift};
  }
  if (!readable) {
    fail(Code::kData, name, ": its pixels are ", format->name,
         ", which is not read; convert it, to yuv420p for example");
  }
  picture.halvings_x = format->log2_chroma_w;
  picture.halvings_y = format->log2_chroma_h;
  // Those called yuvj are of full range by name, and grey is unless it says otherwise.
  const bool full = std::string(format->name).starts_with("yuvj") ||
                    (colours == 1 && frame.color_range == AVCOL_RANGE_UNSPECIFIED);
  picture.full_range = full || frame.color_range == AVCOL_RANGE_JPEG;
  if (picture.kind == RawPicture::Kind::kYuv) picture.luma = luma_of(frame, name);
  place_chroma(frame, picture);
  return to_image(picture);
}

}  // namespace

VideoSummary summary_of_video(const std::string& path, const VideoLimits& limits,
                              const std::string& name) {
  Container container(path, limits, name);
  const AVCodecParameters& video = container.codec();
  VideoSummary summary{{video.height, video.width}, container.frames_by_index()};
  if (container.orientation() >= 5) summary.size = {video.width, video.height};
  if (summary.frames == 0) {
    const FfmpegPointer<AVPacket> packet = new_packet();
    while (container.read(*packet) && summary.frames <= limits.frames) {
      summary.frames += container.is_shown(*packet);
    }
  }
  if (summary.frames == 0) fail(Code::kData, name, ": it holds no frame");
  if (summary.frames > limits.frames) {
    fail(Code::kData, name, ": it has more than ", human_count(limits.frames),
         " frames; cut it into several files");
  }
  return summary;
}

class VideoReader::Decoding {
 public:
  Decoding(const std::string& path, const VideoLimits& limits, const std::string& name,
           uint64_t frames)
      : path_(path), name_(name), limits_(limits), frames_(frames), packet_(new_packet()) {
    frame_.reset(ffmpeg().av_frame_alloc());
    LF_CHECK(frame_ != nullptr);
    open();
    table_ = table_of(*container_);
  }

  uint64_t position() const { return started_ ? next_ : 0; }

  Image frame(uint64_t wanted) {
    refuse_lost(wanted);
    if (table_) {
      const FrameTable::Start& start = table_->start_of(wanted);
      if (!started_ || wanted < next_ || start.packet > fed_) start_at(start);
    } else if (!started_ || wanted < next_) {
      start_over();
    }
    while (next_ <= wanted) {
      const uint64_t shown = advance();
      if (shown == kUnknown) refuse(wanted, "it is missing");
      next_ = shown + 1;
    }
    if (next_ != wanted + 1) refuse(wanted, "it is missing");
    if (is_damaged(wanted)) refuse(wanted, "its data is damaged");
    Image image = image_of(*frame_, name_);
    const int orientation = container_->orientation();
    return orientation == 1 ? image : turn_upright(image, orientation);
  }

 private:
  [[noreturn]] void refuse(uint64_t frame, const char* why) const {
    fail(Code::kData, name_, ": frame ", frame, " cannot be decoded: ", why);
  }

  void refuse_lost(uint64_t wanted) const {
    if (!table_) return;
    constexpr uint64_t kMostOutOfOrder = 16;
    const uint64_t there = table_->shown.size();
    const bool broken = table_->breaks_off || there < frames_;
    const bool lost = broken && wanted + kMostOutOfOrder >= there;
    if (wanted >= there || lost) refuse(wanted, "the file ends before it");
  }

  void open() { container_ = std::make_unique<Container>(path_, limits_, name_); }

  // A new decoder, which remembers nothing of other frames.
  void begin() {
    decoder_ = open_decoder(*container_, limits_, name_);
    started_ = true;
    draining_ = has_packet_ = false;
    bad_.clear();
    failures_ = 0;
  }

  void start_over() {
    started_ = false;
    open();
    begin();
    fed_ = next_ = 0;
  }

  // Reads on to the packet to start from; from the first one, if a seek leads beyond it.
  void start_at(const FrameTable::Start& start) {
    started_ = false;
    const bool found =
        start.packet > 0 && container_->seek(start.decoding_time) && read_to(start.packet);
    if (!found) {
      open();
      if (!read_to(start.packet)) fail(Code::kData, name_, ": the file has changed");
    }
    begin();
    has_packet_ = true;
    next_ = 0;
  }

  bool read_to(uint64_t packet) {
    try {
      while (container_->read(*packet_)) {
        const uint64_t number = table_->packet_at(packet_->pts);
        if (number == packet) return true;
        if (number > packet) return false;
      }
    } catch (const Error&) {
    }
    return false;
  }

  // Decodes the next frame that is shown into frame_. Returns its number, kUnknown at the end.
  uint64_t advance() {
    for (;;) {
      const int status = ffmpeg().avcodec_receive_frame(decoder_.get(), frame_.get());
      if (status == 0) {
        const uint64_t number = table_ ? table_->frame_at(frame_->pts) : next_;
        if (number == kUnknown) continue;
        if (frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0) {
          bad_.push_back(table_ ? table_->shown[number].packet : fed_);
        }
        return number;
      }
      constexpr int kMostFailures = 1000;
      if (status == AVERROR_EOF || failures_ > kMostFailures) return kUnknown;
      if (status != AVERROR(EAGAIN)) {
        ++failures_;
        bad_.push_back(fed_);
        if (draining_) continue;
      }
      feed();
    }
  }

  void feed() {
    if (!has_packet_ && !read_next()) {
      draining_ = true;
      ffmpeg().avcodec_send_packet(decoder_.get(), nullptr);
      return;
    }
    has_packet_ = false;
    fed_ = table_ ? table_->packet_at(packet_->pts) : fed_ + 1;
    forget_ffmpeg_remark();
    const int status = ffmpeg().avcodec_send_packet(decoder_.get(), packet_.get());
    // FFV1 replaces what its checksums refute, and says so only in the log.
    const bool replaced = decoder_->codec_id == AV_CODEC_ID_FFV1 && !ffmpeg_remark().empty();
    if (status < 0 || replaced) bad_.push_back(fed_);
  }

  bool read_next() {
    try {
      return !draining_ && container_->read(*packet_);
    } catch (const Error&) {
      bad_.push_back(fed_ + 1);
      return false;
    }
  }

  // Of what is decoded from its key frame on, anything up to the frame. Where frames are counted,
  // none is certain after the first failure.
  bool is_damaged(uint64_t frame) const {
    if (!table_) return !bad_.empty();
    const uint64_t first = table_->start_of(frame).packet, last = table_->shown[frame].packet;
    return std::any_of(bad_.begin(), bad_.end(),
                       [&](uint64_t packet) { return packet >= first && packet <= last; });
  }

  const std::string path_, name_;
  const VideoLimits limits_;
  const uint64_t frames_;
  std::unique_ptr<Container> container_;
  std::optional<FrameTable> table_;
  FfmpegPointer<AVCodecContext> decoder_;
  FfmpegPointer<AVPacket> packet_;
  FfmpegPointer<AVFrame> frame_;
  bool started_ = false, draining_ = false;
  bool has_packet_ = false;    // read, and not yet fed
  uint64_t fed_ = 0;           // the last packet fed: its number, or of counted ones how many
  uint64_t next_ = 0;          // the frame after the last one that came out
  std::vector<uint64_t> bad_;  // packets that failed since the start
  int failures_ = 0;
};

VideoReader::VideoReader(const std::string& path, const VideoLimits& limits,
                         const std::string& name, uint64_t frames)
    : decoding_(std::make_unique<Decoding>(path, limits, name, frames)) {}
VideoReader::~VideoReader() = default;

uint64_t VideoReader::position() const { return decoding_->position(); }

void VideoReader::read(std::span<const uint64_t> frames, const std::function<void(Image)>& take) {
  for (const uint64_t frame : frames) take(decoding_->frame(frame));
}

}  // namespace lf
