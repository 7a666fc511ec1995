// Extractors in TorchScript files that people bring. Two known ones are called as their owners do:
// NVIDIA's inception-2015-12-05.pt (a keyword return_features) and StyleGAN-V's i3d_torchscript.pt
// (rescale, resize, return_features); they count as "inception" and "i3d". Any other is called with
// float32 [N, 3, H, W] of 0..255 (with an attribute `frames` of T or more: [N, 3, T, H, W]) and
// gives [N, dim]. A file's code runs here, in TorchScript's own interpreter: only for files that
// people trust. Called by eval/open_extractor.cc.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "model/extractors/extractor.h"

namespace lf {

// Code::kCheckpoint if the file is no TorchScript, or makes no features.
std::unique_ptr<Extractor> load_torchscript(const std::string& file, const std::string& hash,
                                            Preprocessing id, at::Device device);

}  // namespace lf
