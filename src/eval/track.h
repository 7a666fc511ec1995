// Where something is in each frame of a video, and how far two sets of videos agree in that: the
// metrics of long videos whose content has a place, such as a bouncing digit. All that is bright is
// tracked; one object on a dark ground is meant. An extractor that needs no weights, and the two
// metrics of its features.
#pragma once

#include <memory>

#include "model/extractors/extractor.h"

namespace lf {

// One layer, "track": of every frame the bright pixels' centre (x, y, in pixels; -1 where there are
// none) and their weight in whole pixels, 3 values a frame. For clips of `frames` frames, 2 or
// more.
std::unique_ptr<Extractor> make_track_extractor(int64_t frames);

// The mean over both coordinates of the Wasserstein distance between the places of all frames of
// the sets, in pixels.
double track_distance(const at::Tensor& real_ND, const at::Tensor& fake_ND);

// Percentage of frames of the made set where no real frame could be: without an object, with one
// more than a tenth smaller or larger than any real one, or more than two pixels from every place
// where a real one was.
double track_outliers(const at::Tensor& real_ND, const at::Tensor& fake_ND);

}  // namespace lf
