// A small convolutional video autoencoder in pixel space, with dropout and an optional patch
// discriminator. It exercises every part of the engine (temporal mixing, keyed dropout, two phases)
// and trains in a minute on a CPU. Not a published model.
#pragma once

#include "model/model.h"

namespace lf {

std::unique_ptr<Model> make_autoencoder(const AutoencoderConfig& config, const ClipShape& shape,
                                        const TrainConfig& train, at::Device device);

}  // namespace lf
