// Writes films with FFmpeg's encoders: pictures to their pixel formats by arithmetic of our own.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <numeric>

#include "base/error.h"
#include "data/video/ffmpeg.h"
#include "data/video/film.h"
#include "data/video/support.h"

namespace lf {
namespace {

struct FilmKind {
  const char* ending;
  const char* muxer;
  const char* encoder;
  AVPixelFormat pixels;
  int ticks;  // of time, in a second
  const char* option;
  const char* value;  // of the encoder
};
constexpr std::array kKinds = {
    FilmKind{".mp4", "mp4", "libx264", AV_PIX_FMT_YUV420P, 1000, "crf", "12"},
    FilmKind{".gif", "gif", "gif", AV_PIX_FMT_PAL8, 100, "gifflags", "0"},
    FilmKind{".webp", "webp", "libwebp_anim", AV_PIX_FMT_BGRA, 1000, "lossless", "1"},
};

const FilmKind& kind_of(const std::string& path) {
  const auto* kind = std::find_if(kKinds.begin(), kKinds.end(),
                                  [&](const FilmKind& k) { return path.ends_with(k.ending); });
  LF_CHECK(kind != kKinds.end());
  return *kind;
}

std::array<int, 3> colour_at(const Image& image, int y, int x) {
  y = std::min(y, image.height - 1);
  x = std::min(x, image.width - 1);
  const uint8_t* at = &image.pixels[static_cast<size_t>((y * image.width + x) * image.channels)];
  const bool grey = image.channels == 1;
  return {at[0], at[grey ? 0 : 1], at[grey ? 0 : 2]};
}

uint32_t packed(const std::array<int, 3>& colour) {
  return static_cast<uint32_t>(colour[0] << 16 | colour[1] << 8 | colour[2]);
}

// At most 256 colours for all frames of a film: those it has, or the means of boxes of colours of 5
// bits, halved at the median of their longest side.
class Palette {
 public:
  explicit Palette(std::span<const Image> frames) {
    if (frames.empty()) return;
    std::map<uint32_t, uint64_t> counts;  // of colours, then of those of 5 bits
    for (const bool coarse : {false, true}) {
      coarse_ = coarse;
      counts.clear();
      for (const Image& frame : frames) count(frame, counts);
      if (counts.size() <= kMost) break;
    }
    boxes_.push_back({{counts.begin(), counts.end()}});
    while (boxes_.size() < kMost && halve_largest()) {
    }
    for (size_t i = 0; i < boxes_.size(); ++i) {
      colours_.push_back(mean(boxes_[i]));
      for (const auto& [colour, count] : boxes_[i].colours)
        index_[colour] = static_cast<uint8_t>(i);
    }
  }

  const std::vector<uint32_t>& colours() const { return colours_; }  // 0xRRGGBB
  uint8_t index(const std::array<int, 3>& colour) const { return index_.at(key(packed(colour))); }

 private:
  static constexpr size_t kMost = 256;
  struct Box {
    std::vector<std::pair<uint32_t, uint64_t>> colours;
  };

  uint32_t key(uint32_t colour) const { return coarse_ ? colour & 0xF8F8F8 : colour; }

  void count(const Image& frame, std::map<uint32_t, uint64_t>& counts) const {
    uint64_t* last = nullptr;
    uint32_t last_key = 0;
    for (int y = 0; y < frame.height; ++y) {
      for (int x = 0; x < frame.width; ++x) {
        const uint32_t colour = key(packed(colour_at(frame, y, x)));
        if (last == nullptr || colour != last_key) last = &counts[colour], last_key = colour;
        ++*last;
      }
      if (!coarse_ && counts.size() > kMost) return;
    }
  }

  // The side of a box that is longest, and its length.
  static std::pair<int, int> longest_side(const Box& box) {
    std::pair<int, int> best{0, 0};
    for (const int shift : {0, 8, 16}) {
      int low = 255, high = 0;
      for (const auto& [colour, count] : box.colours) {
        const int value = static_cast<int>(colour >> shift & 255);
        low = std::min(low, value);
        high = std::max(high, value);
      }
      if (high - low > best.second) best = {shift, high - low};
    }
    return best;
  }

  bool halve_largest() {
    Box* largest = nullptr;
    uint64_t most = 0;
    for (Box& box : boxes_) {
      const auto length = static_cast<uint64_t>(longest_side(box).second);
      if (length * pixels(box) > most) most = length * pixels(box), largest = &box;
    }
    if (largest == nullptr) return false;
    const int shift = longest_side(*largest).first;
    auto& colours = largest->colours;
    std::stable_sort(colours.begin(), colours.end(), [&](const auto& a, const auto& b) {
      return (a.first >> shift & 255) < (b.first >> shift & 255);
    });
    const uint64_t half = pixels(*largest) / 2;
    uint64_t below = 0;
    size_t cut = 0;
    while (cut + 1 < colours.size() && (cut == 0 || below < half)) below += colours[cut++].second;
    const auto middle = colours.begin() + static_cast<ptrdiff_t>(cut);
    Box upper{{middle, colours.end()}};
    colours.erase(middle, colours.end());
    boxes_.push_back(std::move(upper));
    return true;
  }

  static uint64_t pixels(const Box& box) {
    return std::accumulate(box.colours.begin(), box.colours.end(), uint64_t{0},
                           [](uint64_t sum, const auto& entry) { return sum + entry.second; });
  }

  uint32_t mean(const Box& box) const {
    uint32_t colour = 0;
    for (const int shift : {0, 8, 16}) {
      uint64_t sum = 0;
      for (const auto& [entry, count] : box.colours) {
        sum += count * ((entry >> shift & 255) + (coarse_ ? 4u : 0u));
      }
      colour |= static_cast<uint32_t>(sum / pixels(box)) << shift;
    }
    return colour;
  }

  bool coarse_ = false;
  std::vector<Box> boxes_;
  std::vector<uint32_t> colours_;
  std::map<uint32_t, uint8_t> index_;
};

// BT.709 of limited range, chroma the mean of its four pixels. 16 bits after the point.
void put_yuv(const Image& image, AVFrame& frame) {
  const auto put = [&](int plane, int y, int x, int64_t sum, int zero) {
    frame.data[plane][y * frame.linesize[plane] + x] =
        static_cast<uint8_t>((sum + (zero << 16) + (1 << 15)) >> 16);
  };
  for (int y = 0; y < frame.height; ++y) {
    for (int x = 0; x < frame.width; ++x) {
      const auto [r, g, b] = colour_at(image, y, x);
      put(0, y, x, 11966 * r + 40254 * g + 4064 * b, 16);
    }
  }
  for (int y = 0; y < frame.height / 2; ++y) {
    for (int x = 0; x < frame.width / 2; ++x) {
      std::array<int, 3> sum{};
      for (const int i : {0, 1, 2, 3}) {
        const std::array<int, 3> colour = colour_at(image, 2 * y + i / 2, 2 * x + i % 2);
        for (size_t c = 0; c < 3; ++c) sum[c] += colour[c];
      }
      const auto [r, g, b] = sum;  // of four: the coefficients are quarters
      put(1, y, x, -1649 * r - 5547 * g + 7196 * b, 128);
      put(2, y, x, 7196 * r - 6536 * g - 660 * b, 128);
    }
  }
}

void put_palette(const Image& image, const Palette& palette, AVFrame& frame) {
  auto* colours = reinterpret_cast<uint32_t*>(frame.data[1]);
  std::fill_n(colours, 256, 0xFF000000);
  for (size_t i = 0; i < palette.colours().size(); ++i) {
    colours[i] = 0xFF000000 | palette.colours()[i];
  }
  for (int y = 0; y < frame.height; ++y) {
    for (int x = 0; x < frame.width; ++x) {
      frame.data[0][y * frame.linesize[0] + x] = palette.index(colour_at(image, y, x));
    }
  }
}

void put_bgra(const Image& image, AVFrame& frame) {
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* out = frame.data[0] + y * frame.linesize[0];
    for (int x = 0; x < frame.width; ++x, out += 4) {
      const auto [r, g, b] = colour_at(image, y, x);
      out[0] = static_cast<uint8_t>(b);
      out[1] = static_cast<uint8_t>(g);
      out[2] = static_cast<uint8_t>(r);
      out[3] = 255;
    }
  }
}

// The file in memory, which a muxer goes back in.
struct Written {
  std::string bytes;
  size_t at = 0;

  static int write(void* opaque, uint8_t* data, int size) {
    auto& self = *static_cast<Written*>(opaque);
    const auto count = static_cast<size_t>(size);
    if (self.bytes.size() < self.at + count) self.bytes.resize(self.at + count);
    std::memcpy(self.bytes.data() + self.at, data, count);
    self.at += count;
    return size;
  }
  static int64_t seek(void* opaque, int64_t offset, int whence) {
    auto& self = *static_cast<Written*>(opaque);
    if ((whence & AVSEEK_SIZE) != 0) return static_cast<int64_t>(self.bytes.size());
    if (whence == SEEK_CUR) offset += static_cast<int64_t>(self.at);
    if (whence == SEEK_END) offset += static_cast<int64_t>(self.bytes.size());
    if (offset < 0) return AVERROR(EINVAL);
    self.at = static_cast<size_t>(offset);
    return offset;
  }
};

void require(int status, const FilmKind& kind, const char* what) {
  if (status >= 0) return;
  fail(Code::kStorage, "the film cannot be encoded as ", kind.ending, ": ", what, ": ",
       ffmpeg_reason(status), ffmpeg_remark());
}

class FilmWriter {
 public:
  FilmWriter(const FilmKind& kind, std::span<const Image> frames, int milliseconds)
      : kind_(kind),
        frames_(frames),
        ticks_each_(milliseconds * kind.ticks / 1000),
        palette_(kind.pixels == AV_PIX_FMT_PAL8 ? frames : frames.subspan(0, 0)) {}

  std::string write() {
    const Ffmpeg& f = ffmpeg();
    open_encoder();
    open_muxer();
    for (size_t i = 0; i < frames_.size(); ++i) {
      const FfmpegPointer<AVFrame> frame = frame_of(frames_[i]);
      frame->pts = static_cast<int64_t>(i) * ticks_each_;
      require(f.avcodec_send_frame(encoder_.get(), frame.get()), kind_, "a frame is refused");
      write_packets();
    }
    require(f.avcodec_send_frame(encoder_.get(), nullptr), kind_, "the last frames are refused");
    write_packets();
    require(f.av_write_trailer(muxer_.get()), kind_, "no end can be written");
    f.avio_flush(io_.get());
    return std::move(written_.bytes);
  }

 private:
  struct FreeMuxer {
    void operator()(AVFormatContext* muxer) const { ffmpeg().avformat_free_context(muxer); }
  };

  void open_encoder() {
    const Ffmpeg& f = ffmpeg();
    const AVCodec* codec = f.avcodec_find_encoder_by_name(kind_.encoder);
    LF_CHECK(codec != nullptr);
    encoder_.reset(f.avcodec_alloc_context3(codec));
    LF_CHECK(encoder_ != nullptr);
    const bool yuv = kind_.pixels == AV_PIX_FMT_YUV420P;
    // 4:2:0 has whole pairs; the last row and column are then there twice.
    encoder_->width = frames_.front().width + (yuv ? frames_.front().width % 2 : 0);
    encoder_->height = frames_.front().height + (yuv ? frames_.front().height % 2 : 0);
    encoder_->pix_fmt = kind_.pixels;
    encoder_->time_base = {1, kind_.ticks};
    encoder_->framerate = {kind_.ticks, ticks_each_};
    encoder_->thread_count = 1;  // the same bytes on any machine
    encoder_->flags |= AV_CODEC_FLAG_BITEXACT;
    if (yuv) {
      encoder_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
      encoder_->colorspace = AVCOL_SPC_BT709;
      encoder_->color_primaries = AVCOL_PRI_BT709;
      encoder_->color_trc = AVCOL_TRC_IEC61966_2_1;
      encoder_->color_range = AVCOL_RANGE_MPEG;
      encoder_->chroma_sample_location = AVCHROMA_LOC_CENTER;
    }
    f.av_opt_set(encoder_->priv_data, kind_.option, kind_.value, 0);
    forget_ffmpeg_remark();
    require(f.avcodec_open2(encoder_.get(), codec, nullptr), kind_, kind_.encoder);
  }

  void open_muxer() {
    const Ffmpeg& f = ffmpeg();
    muxer_.reset(f.avformat_alloc_context());
    constexpr int kBuffer = 64 << 10;
    io_.reset(f.avio_alloc_context(static_cast<uint8_t*>(f.av_malloc(kBuffer)), kBuffer, 1,
                                   &written_, nullptr, Written::write, Written::seek));
    LF_CHECK(muxer_ != nullptr && io_ != nullptr);
    muxer_->oformat = f.av_guess_format(kind_.muxer, nullptr, nullptr);
    LF_CHECK(muxer_->oformat != nullptr);
    muxer_->pb = io_.get();
    muxer_->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    stream_ = f.avformat_new_stream(muxer_.get(), nullptr);
    LF_CHECK(stream_ != nullptr);
    stream_->time_base = encoder_->time_base;
    require(f.avcodec_parameters_from_context(stream_->codecpar, encoder_.get()), kind_, "stream");
    AVDictionary* options = nullptr;
    f.av_dict_set(&options, "loop", "0", 0);  // for ever, where there is such an option
    const int status = f.avformat_write_header(muxer_.get(), &options);
    f.av_dict_free(&options);
    require(status, kind_, "no header can be written");
  }

  FfmpegPointer<AVFrame> frame_of(const Image& image) const {
    LF_CHECK(image.shape() == frames_.front().shape());
    FfmpegPointer<AVFrame> frame(ffmpeg().av_frame_alloc());
    LF_CHECK(frame != nullptr);
    frame->format = kind_.pixels;
    frame->width = encoder_->width;
    frame->height = encoder_->height;
    require(ffmpeg().av_frame_get_buffer(frame.get(), 0), kind_, "no memory");
    if (kind_.pixels == AV_PIX_FMT_YUV420P) put_yuv(image, *frame);
    if (kind_.pixels == AV_PIX_FMT_PAL8) put_palette(image, palette_, *frame);
    if (kind_.pixels == AV_PIX_FMT_BGRA) put_bgra(image, *frame);
    return frame;
  }

  void write_packets() {
    const Ffmpeg& f = ffmpeg();
    const FfmpegPointer<AVPacket> packet(f.av_packet_alloc());
    LF_CHECK(packet != nullptr);
    for (;;) {
      const int status = f.avcodec_receive_packet(encoder_.get(), packet.get());
      if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) return;
      require(status, kind_, "encoding");
      if (packet->duration == 0) packet->duration = ticks_each_;
      f.av_packet_rescale_ts(packet.get(), encoder_->time_base, stream_->time_base);
      packet->stream_index = 0;
      require(f.av_interleaved_write_frame(muxer_.get(), packet.get()), kind_, "writing");
    }
  }

  const FilmKind& kind_;
  std::span<const Image> frames_;
  int ticks_each_;
  Palette palette_;
  Written written_;
  FfmpegPointer<AVCodecContext> encoder_;
  FfmpegPointer<AVIOContext> io_;
  std::unique_ptr<AVFormatContext, FreeMuxer> muxer_;
  AVStream* stream_ = nullptr;
};

}  // namespace

void check_film(const std::string& path) {
  if (!is_film(path)) return;
  const FilmKind& kind = kind_of(path);
  if (ffmpeg().avcodec_find_encoder_by_name(kind.encoder) != nullptr) return;
  fail(Code::kUsage, "the FFmpeg at hand has no encoder ", kind.encoder, ", which a film as ",
       kind.ending, " needs; take .apng");
}

std::string encode_film(const std::string& path, std::span<const Image> frames,
                        int milliseconds_per_frame) {
  LF_CHECK(!frames.empty());
  check_film(path);
  return FilmWriter(kind_of(path), frames, milliseconds_per_frame).write();
}

}  // namespace lf
