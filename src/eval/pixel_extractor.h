// The extractor that needs no weights: the pixels themselves, shrunk. Its distance is fd_pixels, a
// check of the machinery and a crude measure of colours and layout, not of quality.
#pragma once

#include <memory>

#include "model/extractors/extractor.h"

namespace lf {

// One layer, "pixels": a last frame's mean colours in 4 x 4 fields, 16 values a channel.
std::unique_ptr<Extractor> make_pixel_extractor(int64_t channels);

}  // namespace lf
