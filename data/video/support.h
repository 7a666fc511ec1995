// Whether this program can read and write videos: it was built with FFmpeg's headers, and the
// libraries are installed.
#pragma once

#include <string>

namespace lf {

// "FFmpeg, libavutil 57.28.100"; "" without.
std::string video_support();

// Throws Code::kUsage, saying what is missing.
void require_video_support();

}  // namespace lf
