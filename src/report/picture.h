// Pictures inside the page, as data: URIs, within a budget of bytes: a picture that is too large is
// made smaller, and one that cannot be read is a sentence in its place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "data/image/image.h"
#include "report/html.h"

namespace lf {

std::string base64(std::string_view bytes);

// "data:image/png;base64,..." of a PNG file's bytes, animated or not.
std::string data_uri(std::string_view png);

// The bytes of an image file (PNG or JPEG) that decode, as PNG of at most `most` bytes: as they are
// if they are small, else with its sides halved until it is. Throws Code::kData.
std::string png_within(const std::string& bytes, uint64_t most, const std::string& name);

// An <img>. `zoomed` shows pixels as squares.
void write_picture(Html& html, std::string_view png, const std::string& alternative,
                   bool zoomed = false);

// The clips of a .npy file of bytes, [n, H, W, C] or [n, T, H, W, C]: the first `most` of them,
// each with its frames. Throws Code::kData or Code::kUsage with the reason.
std::vector<std::vector<Image>> read_clips(FileSystem& files, const std::string& path, size_t most);

// Images of one size side by side, each side at most `side` pixels.
Image side_by_side(const std::vector<Image>& images, int side);

}  // namespace lf
