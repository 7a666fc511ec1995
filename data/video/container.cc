#include "data/video/container.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace lf {

// The file as FFmpeg reads it. Its callbacks must not throw.
struct Container::Reading {
  std::unique_ptr<InFile> file;
  uint64_t at = 0;

  static int read(void* opaque, uint8_t* into, int size) {
    auto& self = *static_cast<Reading*>(opaque);
    if (self.at >= self.file->size()) return AVERROR_EOF;
    const auto count = std::min<uint64_t>(static_cast<uint64_t>(size), self.file->size() - self.at);
    try {
      self.file->read(self.at, into, count);
    } catch (const Error&) {
      return AVERROR(EIO);
    }
    self.at += count;
    return static_cast<int>(count);
  }

  static int64_t seek(void* opaque, int64_t offset, int whence) {
    auto& self = *static_cast<Reading*>(opaque);
    const auto size = static_cast<int64_t>(self.file->size());
    if ((whence & AVSEEK_SIZE) != 0) return size;
    whence &= ~AVSEEK_FORCE;
    if (whence == SEEK_CUR) offset += static_cast<int64_t>(self.at);
    if (whence == SEEK_END) offset += size;
    if (offset < 0) return AVERROR(EINVAL);
    self.at = static_cast<uint64_t>(offset);
    return offset;
  }
};

namespace {

constexpr unsigned kMostStreams = 64;

// How frames of a codec may be reached.
enum class Reach {
  kKeyFrames,  // a packet marked as key needs nothing before it
  kUnits,      // the same, but only of some units in such a packet
  kCounted,    // from the first frame
};
struct Codec {
  AVCodecID id;
  Reach reach;
};
constexpr auto kCodecs = std::to_array<Codec>({
    {AV_CODEC_ID_H264, Reach::kUnits},         {AV_CODEC_ID_HEVC, Reach::kUnits},
    {AV_CODEC_ID_VP8, Reach::kKeyFrames},      {AV_CODEC_ID_VP9, Reach::kKeyFrames},
    {AV_CODEC_ID_AV1, Reach::kKeyFrames},      {AV_CODEC_ID_FFV1, Reach::kKeyFrames},
    {AV_CODEC_ID_MJPEG, Reach::kKeyFrames},    {AV_CODEC_ID_PNG, Reach::kKeyFrames},
    {AV_CODEC_ID_RAWVIDEO, Reach::kKeyFrames}, {AV_CODEC_ID_HUFFYUV, Reach::kKeyFrames},
    {AV_CODEC_ID_FFVHUFF, Reach::kKeyFrames},  {AV_CODEC_ID_UTVIDEO, Reach::kKeyFrames},
    {AV_CODEC_ID_PRORES, Reach::kKeyFrames},   {AV_CODEC_ID_DNXHD, Reach::kKeyFrames},
    {AV_CODEC_ID_DVVIDEO, Reach::kKeyFrames},  {AV_CODEC_ID_MPEG4, Reach::kCounted},
    {AV_CODEC_ID_MSMPEG4V2, Reach::kCounted},  {AV_CODEC_ID_MSMPEG4V3, Reach::kCounted},
    {AV_CODEC_ID_MPEG1VIDEO, Reach::kCounted}, {AV_CODEC_ID_MPEG2VIDEO, Reach::kCounted},
    {AV_CODEC_ID_H263, Reach::kCounted},       {AV_CODEC_ID_CINEPAK, Reach::kCounted},
    {AV_CODEC_ID_GIF, Reach::kCounted},
});

const Codec* codec_of(AVCodecID id) {
  const auto* found =
      std::find_if(kCodecs.begin(), kCodecs.end(), [&](const Codec& c) { return c.id == id; });
  return found == kCodecs.end() ? nullptr : found;
}

// FFmpeg's name of the format that begins so; "" for none that is read. Others, such as lists of
// further files, are never looked for.
std::string format_of(const InFile& file) {
  std::array<char, 12> head{};
  file.read(0, head.data(), std::min<uint64_t>(head.size(), file.size()));
  const auto has = [&](size_t at, const char* text) {
    return std::memcmp(head.data() + at, text, std::strlen(text)) == 0;
  };
  for (const char* box : {"ftyp", "moov", "mdat", "wide", "free", "skip"}) {
    if (has(4, box)) return "mov";
  }
  if (has(0, "RIFF") && has(8, "AVI")) return "avi";
  if (has(0, "\x1a\x45\xdf\xa3")) return "matroska";
  return has(0, "GIF8") ? "gif" : "";
}

// An avi that was not copied to its end. Nothing is said by 0 and by the greatest size.
bool is_cut_short(const InFile& file) {
  std::array<uint8_t, 4> size{};
  file.read(4, size.data(), size.size());
  const uint64_t promised = size[0] | size[1] << 8 | size[2] << 16 | uint64_t{size[3]} << 24;
  return promised != 0xFFFFFFFF && promised > file.size();
}

// The turn of a display matrix, 16.16 in rows (a b .; c d .); nothing for another angle.
std::optional<int> orientation_of(const int32_t* matrix) {
  constexpr int32_t kOne = 1 << 16;
  struct Turn {
    int a, b, c, d;
  };
  constexpr std::array<Turn, 8> kTurns = {Turn{1, 0, 0, 1}, {-1, 0, 0, 1}, {-1, 0, 0, -1},
                                          {1, 0, 0, -1},    {0, 1, 1, 0},  {0, 1, -1, 0},
                                          {0, -1, -1, 0},   {0, -1, 1, 0}};
  for (size_t i = 0; i < kTurns.size(); ++i) {
    const Turn& turn = kTurns[i];
    if (matrix[0] == turn.a * kOne && matrix[1] == turn.b * kOne && matrix[3] == turn.c * kOne &&
        matrix[4] == turn.d * kOne) {
      return static_cast<int>(i) + 1;
    }
  }
  return std::nullopt;
}

// The type of the first unit of a packet that codes a picture; -1 for none.
int first_picture_unit(const AVCodecParameters& codec, const AVPacket& packet) {
  const bool hevc = codec.codec_id == AV_CODEC_ID_HEVC;
  const int last_picture = hevc ? 31 : 5, first_picture = hevc ? 0 : 1;
  const auto type_of = [&](uint8_t head) { return hevc ? head >> 1 & 63 : head & 31; };
  const int at_prefix = hevc ? 21 : 4;
  const bool prefixed = codec.extradata_size > at_prefix && codec.extradata[0] == 1;
  const size_t size = static_cast<size_t>(packet.size);
  size_t prefix = prefixed ? (codec.extradata[at_prefix] & 3u) + 1u : 3;
  for (size_t at = 0; at + prefix < size;) {
    size_t unit = at + prefix, length = 0;
    if (prefixed) {
      for (size_t i = 0; i < prefix; ++i) length = length << 8 | packet.data[at + i];
    } else if (packet.data[at] != 0 || packet.data[at + 1] != 0 || packet.data[at + 2] != 1) {
      ++at;
      continue;
    }
    const int type = type_of(packet.data[unit]);
    if (type >= first_picture && type <= last_picture) return type;
    if (length > size - unit) return -1;
    at = unit + length;
  }
  return -1;
}

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);  // a file may not name another
}

}  // namespace

Container::Container(const std::string& path, const VideoLimits& limits, const std::string& name)
    : name_(name), reading_(std::make_unique<Reading>()) {
  try {
    reading_->file = real_file_system().open_read(path);
  } catch (const Error& unreadable) {
    fail(Code::kData, unreadable.what());
  }
  open(path, limits);
  choose_stream();
  check(limits);
}

void Container::open(const std::string& path, const VideoLimits& limits) {
  const InFile& file = *reading_->file;
  if (file.size() == 0) fail(Code::kData, name_, ": the file is empty");
  format_ = format_of(file);
  if (format_.empty()) {
    fail(Code::kData, name_, ": it is something else, expected an mp4, avi, mkv, webm or gif");
  }
  if (format_ == "avi" && is_cut_short(file)) {
    fail(Code::kData, name_, ": the file is shorter than its header says; truncated?");
  }
  const Ffmpeg& f = ffmpeg();
  // For the whole process. A few bytes of a hostile header may ask for an index of any size.
  constexpr uint64_t kLargestPixel = 8, kOthers = 64 << 20;
  f.av_max_alloc(limits.pixels * kLargestPixel + kOthers);
  constexpr int kBuffer = 64 << 10;
  io_.reset(f.avio_alloc_context(static_cast<uint8_t*>(f.av_malloc(kBuffer)), kBuffer, 0,
                                 reading_.get(), Reading::read, nullptr, Reading::seek));
  AVFormatContext* context = f.avformat_alloc_context();
  LF_CHECK(io_ != nullptr && context != nullptr);
  context->pb = io_.get();
  context->flags |= AVFMT_FLAG_CUSTOM_IO;
  context->io_open = refuse_to_open;
  context->max_streams = kMostStreams;
  forget_ffmpeg_remark();
  const int status = f.avformat_open_input(&context, path.c_str(),
                                           f.av_find_input_format(format_.c_str()), nullptr);
  context_.reset(context);
  if (status < 0) {
    fail(Code::kData, name_, ": it cannot be read: ", ffmpeg_reason(status), ffmpeg_remark());
  }
}

void Container::choose_stream() {
  for (unsigned i = 0; i < context_->nb_streams; ++i) {
    AVStream* stream = context_->streams[i];
    stream->discard = AVDISCARD_ALL;
    const bool is_cover = (stream->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
    if (stream->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !is_cover && stream_ == nullptr) {
      stream_ = stream;
    }
  }
  if (stream_ == nullptr) fail(Code::kData, name_, ": it holds no video");
  stream_->discard = AVDISCARD_DEFAULT;
  size_t bytes = 0;
  const uint8_t* matrix =
      ffmpeg().av_stream_get_side_data(stream_, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
  if (matrix == nullptr || bytes < 9 * sizeof(int32_t)) return;
  std::array<int32_t, 9> values{};
  std::memcpy(values.data(), matrix, sizeof values);
  const std::optional<int> orientation = orientation_of(values.data());
  if (!orientation) {
    fail(Code::kData, name_, ": its display matrix is no turn by a multiple of 90 degrees");
  }
  orientation_ = *orientation;
}

void Container::check(const VideoLimits& limits) const {
  const AVCodecParameters& video = codec();
  if (codec_of(video.codec_id) == nullptr) {
    fail(Code::kData, name_, ": its codec is ", ffmpeg().avcodec_get_name(video.codec_id),
         ", which is not read; convert it, to H.264 for example");
  }
  const auto pixels = static_cast<uint64_t>(video.width) * static_cast<uint64_t>(video.height);
  if (video.width < 0 || video.height < 0 || pixels > limits.pixels) {
    fail(Code::kData, name_, ": its header says ", video.width, "x", video.height,
         " pixels, at most ", human_count(limits.pixels),
         " are decoded; see source.max_megapixels");
  }
}

Container::~Container() = default;

bool Container::read(AVPacket& packet) {
  for (;;) {
    ffmpeg().av_packet_unref(&packet);
    const int status = ffmpeg().av_read_frame(context_.get(), &packet);
    if (status == AVERROR_EOF) return false;
    if (status < 0) fail(Code::kData, name_, ": the file breaks off: ", ffmpeg_reason(status));
    if (packet.stream_index != stream_->index || packet.size == 0) continue;
    if ((packet.flags & AV_PKT_FLAG_CORRUPT) != 0) {
      fail(Code::kData, name_, ": the file breaks off within a frame");
    }
    return true;
  }
}

bool Container::seek(int64_t time) {
  return ffmpeg().av_seek_frame(context_.get(), stream_->index, time, AVSEEK_FLAG_BACKWARD) >= 0;
}

bool Container::has_times() const {
  return (format_ == "mov" || format_ == "matroska") &&
         codec_of(codec().codec_id)->reach != Reach::kCounted;
}

bool Container::is_start(const AVPacket& packet) const {
  if ((packet.flags & AV_PKT_FLAG_KEY) == 0) return false;
  if (codec_of(codec().codec_id)->reach != Reach::kUnits) return true;
  const int unit = first_picture_unit(codec(), packet);
  return codec().codec_id == AV_CODEC_ID_HEVC ? unit >= 16 && unit <= 21 : unit == 5;
}

bool Container::is_shown(const AVPacket& packet) const {
  if ((packet.flags & AV_PKT_FLAG_DISCARD) != 0) return false;
  return codec().codec_id != AV_CODEC_ID_VP8 || (packet.data[0] & 0x10) != 0;
}

uint64_t Container::frames_by_index() const {
  // What comes in fragments is in no index, and of other formats only key frames are.
  const int entries = ffmpeg().avformat_index_get_entries_count(stream_);
  const bool whole = format_ == "mov"   ? entries >= stream_->nb_frames
                     : format_ == "avi" ? entries == stream_->nb_frames
                                        : false;
  if (!whole || stream_->nb_frames <= 0) return 0;
  uint64_t shown = 0;
  for (int i = 0; i < entries; ++i) {
    const AVIndexEntry* entry = ffmpeg().avformat_index_get_entry(stream_, i);
    shown += (entry->flags & AVINDEX_DISCARD_FRAME) == 0 && entry->size > 0;
  }
  return shown;
}

FfmpegPointer<AVPacket> new_packet() {
  FfmpegPointer<AVPacket> packet(ffmpeg().av_packet_alloc());
  LF_CHECK(packet != nullptr);
  return packet;
}

uint64_t FrameTable::packet_at(int64_t time) const {
  const auto at = std::lower_bound(all.begin(), all.end(), Entry{time, 0});
  return at == all.end() || at->time != time ? kUnknown : at->packet;
}

uint64_t FrameTable::frame_at(int64_t time) const {
  const auto at = std::lower_bound(shown.begin(), shown.end(), Entry{time, 0});
  if (at == shown.end() || at->time != time) return kUnknown;
  return static_cast<uint64_t>(at - shown.begin());
}

const FrameTable::Start& FrameTable::start_of(uint64_t frame) const {
  const Entry& entry = shown[frame];
  auto at =
      std::upper_bound(starts.begin(), starts.end(), entry.packet,
                       [](uint64_t packet, const Start& start) { return packet < start.packet; });
  while (at - starts.begin() > 1 && (at - 1)->time > entry.time) --at;
  return *(at - 1);
}

std::optional<FrameTable> table_of(Container& container) {
  if (!container.has_times()) return std::nullopt;
  FrameTable table;
  const FfmpegPointer<AVPacket> packet = new_packet();
  try {
    while (container.read(*packet)) {
      if (packet->pts == AV_NOPTS_VALUE) return std::nullopt;
      const FrameTable::Entry entry{packet->pts, table.all.size()};
      if (table.all.empty() || container.is_start(*packet)) {
        const int64_t decoding = packet->dts == AV_NOPTS_VALUE ? packet->pts : packet->dts;
        table.starts.push_back({entry.packet, packet->pts, decoding});
      }
      table.all.push_back(entry);
      if (container.is_shown(*packet)) table.shown.push_back(entry);
    }
  } catch (const Error&) {
    table.breaks_off = true;
  }
  std::sort(table.all.begin(), table.all.end());
  std::sort(table.shown.begin(), table.shown.end());
  const auto same = [](const auto& a, const auto& b) { return a.time == b.time; };
  if (std::adjacent_find(table.all.begin(), table.all.end(), same) != table.all.end()) {
    return std::nullopt;
  }
  return table;
}

}  // namespace lf
