// Opens a file of weights as the network it holds, recognised by the tensors in it. Here and not
// beside the networks, because model does not know checkpoint.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "kernels/dispatch.h"
#include "model/extractors/extractor.h"
#include "model/extractors/lpips.h"
#include "run.pb.h"

namespace lf {

// Code::kUsage if there is no such file, Code::kCheckpoint if it is damaged or of another network.
std::unique_ptr<Extractor> open_extractor(const std::string& file, Preprocessing id,
                                          at::Device device, const KernelChoice& kernels,
                                          Precision precision = FP32);

// LPIPS, which compares pairs of images; the same errors.
std::unique_ptr<PairDistance> open_pair_distance(const std::string& file, at::Device device);

}  // namespace lf
