// Extractors in ONNX files: networks of images from any training program, run by LibTorch's
// operators. The graph is data; nothing in the file is executed.
//
// The graph's one input is images, float [N, 3, H, W] or [N, H, W, 3], N free or 1. Where H and W
// are fixed, pictures are stretched to them by Pillow's BILINEAR; else they come as they are. A
// network sees RGB in 0..255, unless the file's metadata says how it was trained:
//   lastframe.name    the extractor's name; else that of the file: opennsfw.onnx is opennsfw
//   lastframe.mean    subtracted first; one number or three, in the order of the channels
//   lastframe.std     divided by then
//   lastframe.order   BGR, or RGB
//   lastframe.side    height and width to stretch pictures to, where the graph leaves them free
// Layers: output, output2, ... are the graph's outputs, maps averaged over height and width; and
// features, if there is a last linear map (Gemm or MatMul), is what goes into it.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "model/extractors/extractor.h"
#include "model/extractors/preprocessing.h"
#include "onnx.pb.h"

namespace lf {

// `model` as checkpoint/onnx_file.h checks it. Throws Code::kCheckpoint, naming the node, for an
// operator or attribute that is not supported, a node that cannot be computed, or whose values
// exceed 1 GiB, and Code::kUsage for a name that says it were another extractor.
std::unique_ptr<Extractor> make_onnx(onnx::ModelProto model, const std::string& file,
                                     const std::string& hash, PillowResize resize,
                                     at::Device device);

}  // namespace lf
