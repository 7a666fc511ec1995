// A prior over the codes of a trained tokenizer; decoded, its samples are images or videos. The
// tokenizer is frozen; its weights are buffers of this model, so that a checkpoint holds all that
// sampling needs.
#pragma once

#include "model/model.h"

namespace lf {

std::unique_ptr<Model> make_code_prior(const Config& config, const ClipShape& shape,
                                       at::Device device, const OpenExport& open);

}  // namespace lf
