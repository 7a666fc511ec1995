// Extractors in TorchScript files. Two known ones have calling conventions of their own: NVIDIA's
// inception-2015-12-05.pt (keyword return_features) and StyleGAN-V's i3d_torchscript.pt (rescale,
// resize, return_features); they count as "inception" and "i3d". Any other is called with float32
// [N, 3, H, W] in 0..255 (with an attribute `frames` of T or more: [N, 3, T, H, W]) and returns
// [N, dim]. The file's code runs in this process: open only files you trust.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "model/extractors/extractor.h"

namespace lf {

// Throws Code::kCheckpoint if the file is no TorchScript, or returns no features.
std::unique_ptr<Extractor> load_torchscript(const std::string& file, const std::string& hash,
                                            Preprocessing id, at::Device device);

}  // namespace lf
