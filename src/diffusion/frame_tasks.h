// Tasks for networks that are to make any frames from any others: which frames of a clip a training
// step shows and which it asks for. Flexible diffusion draws groups of evenly spaced frames, random
// masks single ones. Numbers only; every task is a function of the uniform numbers it is given.
// Called by the diffusion models; the fixed tasks of other models are frame_plan's.
#pragma once

#include "diffusion/frame_plan.h"

namespace lf {

// A random group of evenly spaced frames of a video, ascending: at most `most` of them, whose
// spacing is log-uniform between 1 and what the video holds.
std::vector<int64_t> frame_group(int64_t frames, int64_t most, const Uniforms& uniform);

// A task of at most `places` frames of a video: one group to be made, then others, each shown with
// a probability of `observed` and else to be made, until one does not fit. Frames are in order;
// places that are left are absent.
FrameWindow grouped_task(int64_t frames, int64_t places, double observed, const Uniforms& uniform);

// A task over all frames of a video: with a probability of `unconditional` all are to be made, else
// 1 to `most` of them, any ones, are shown.
FrameWindow masked_task(int64_t frames, int64_t most, double unconditional,
                        const Uniforms& uniform);

}  // namespace lf
