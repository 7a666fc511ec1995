// A prior: makes the codes of a trained tokenizer, and through its decoder images and videos. The
// tokenizer stands still; its weights are kept as buffers of this model, so that a checkpoint holds
// all that sampling needs. Called by make_model().
#pragma once

#include "model/model.h"

namespace lf {

std::unique_ptr<Model> make_code_prior(const Config& config, const ClipShape& shape,
                                       at::Device device, const OpenExport& open);

}  // namespace lf
