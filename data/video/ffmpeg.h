// FFmpeg's libraries, opened when they are first needed: linked, they would load a hundred others
// into every process. Compiled only where their headers are. The one file that includes those.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

#include <memory>
#include <string>

namespace lf {

// X(library, function) for each function that we call.
// clang-format off
#define LF_FFMPEG_CALLS(X)                       \
  X(avutil, av_dict_free)                        \
  X(avutil, av_dict_set)                         \
  X(avutil, av_frame_alloc)                      \
  X(avutil, av_frame_free)                       \
  X(avutil, av_frame_get_buffer)                 \
  X(avutil, av_frame_unref)                      \
  X(avutil, av_free)                             \
  X(avutil, av_log_set_callback)                 \
  X(avutil, av_malloc)                           \
  X(avutil, av_max_alloc)                        \
  X(avutil, av_opt_set)                          \
  X(avutil, av_pix_fmt_desc_get)                 \
  X(avutil, av_strerror)                         \
  X(avutil, avutil_version)                      \
  X(avcodec, av_packet_alloc)                    \
  X(avcodec, av_packet_free)                     \
  X(avcodec, av_packet_rescale_ts)               \
  X(avcodec, av_packet_unref)                    \
  X(avcodec, avcodec_alloc_context3)             \
  X(avcodec, avcodec_find_decoder)               \
  X(avcodec, avcodec_find_encoder_by_name)       \
  X(avcodec, avcodec_free_context)               \
  X(avcodec, avcodec_get_name)                   \
  X(avcodec, avcodec_open2)                      \
  X(avcodec, avcodec_parameters_from_context)    \
  X(avcodec, avcodec_parameters_to_context)      \
  X(avcodec, avcodec_receive_frame)              \
  X(avcodec, avcodec_receive_packet)             \
  X(avcodec, avcodec_send_frame)                 \
  X(avcodec, avcodec_send_packet)                \
  X(avformat, av_find_input_format)              \
  X(avformat, av_guess_format)                   \
  X(avformat, av_interleaved_write_frame)        \
  X(avformat, av_read_frame)                     \
  X(avformat, av_seek_frame)                     \
  X(avformat, av_stream_get_side_data)           \
  X(avformat, av_write_trailer)                  \
  X(avformat, avformat_alloc_context)            \
  X(avformat, avformat_close_input)              \
  X(avformat, avformat_free_context)             \
  X(avformat, avformat_index_get_entries_count)  \
  X(avformat, avformat_index_get_entry)          \
  X(avformat, avformat_new_stream)               \
  X(avformat, avformat_open_input)               \
  X(avformat, avformat_write_header)             \
  X(avformat, avio_alloc_context)                \
  X(avformat, avio_context_free)                 \
  X(avformat, avio_flush)
// clang-format on

struct Ffmpeg {
// NOLINTNEXTLINE(bugprone-macro-parentheses): a type
#define LF_MEMBER(library, function) decltype(&::function) function = nullptr;
  LF_FFMPEG_CALLS(LF_MEMBER)
#undef LF_MEMBER
};

// Throws Code::kUsage where the libraries that this program was compiled for are not installed.
const Ffmpeg& ffmpeg();

// The last line that FFmpeg logged on this thread, " (moov atom not found)", or "".
std::string ffmpeg_remark();
void forget_ffmpeg_remark();

std::string ffmpeg_reason(int error);

// Frees what FFmpeg's functions allocate.
struct FfmpegFree {
  void operator()(AVFrame* frame) const { ffmpeg().av_frame_free(&frame); }
  void operator()(AVPacket* packet) const { ffmpeg().av_packet_free(&packet); }
  void operator()(AVCodecContext* codec) const { ffmpeg().avcodec_free_context(&codec); }
  void operator()(AVFormatContext* input) const { ffmpeg().avformat_close_input(&input); }
  void operator()(AVIOContext* io) const {
    ffmpeg().av_free(io->buffer);
    ffmpeg().avio_context_free(&io);
  }
};
template <typename T>
using FfmpegPointer = std::unique_ptr<T, FfmpegFree>;

}  // namespace lf
