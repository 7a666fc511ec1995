// Random training tasks for networks that make any frames from any others: which frames of a clip
// are observed and which are latent. Flexible diffusion draws groups of evenly spaced frames,
// random masks single ones. Indices only; a task is a function of its uniform draws. The fixed
// tasks of other models are frame_plan's.
#pragma once

#include "diffusion/frame_plan.h"

namespace lf {

// A random group of at most `most` evenly spaced frames of a video, sorted. The spacing is
// log-uniform between 1 and the widest that fits.
std::vector<int64_t> frame_group(int64_t frames, int64_t most, const Uniforms& uniform);

// A task of at most `places` frames of a video: one latent group, then more groups until one does
// not fit, each observed with probability `observed` and latent otherwise. Frames are sorted;
// unused places are absent.
FrameWindow grouped_task(int64_t frames, int64_t places, double observed, const Uniforms& uniform);

// A task over all frames of a video: with probability `unconditional` all are latent, otherwise 1
// to `most` random ones are observed.
FrameWindow masked_task(int64_t frames, int64_t most, double unconditional,
                        const Uniforms& uniform);

}  // namespace lf
