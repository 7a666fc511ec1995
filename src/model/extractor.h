// What the evaluation knows of a feature extractor: a network that turns images, or clips, into
// rows of numbers, and the weight file it came from. Not a Model: it does not train and has no
// config. Weights arrive as named tensors, since model does not know checkpoint;
// eval/open_extractor.h reads the file. Called by eval and `lastframe features`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lf {

// How bytes become what Inception sees. The name is part of every result and cache key.
enum class Preprocessing {
  kTorch,  // pytorch-fid: bilinear with half-pixel centres, no antialias; 2x - 1
  kTf1,    // the original graph, torch-fidelity: bilinear without the half pixel; (x - 128) / 128
  kClean,  // clean-fid: Pillow's bicubic with antialias; then as tf1
};

struct ExtractorLayer {
  std::string name;
  int64_t dim;
};

class Extractor {
 public:
  virtual ~Extractor() = default;
  virtual std::string name() const = 0;  // "inception", "i3d", "own", "torchscript"
  virtual std::string hash() const = 0;  // of the weight file, 16 hex digits
  virtual std::vector<ExtractorLayer> layers() const = 0;
  virtual int64_t frames() const = 0;  // 1: images; else the fewest frames of a clip
  // clips: uint8 [N,T,H,W,C]; for image extractors T = 1. One [N, dim] fp32 tensor per layer asked.
  virtual std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                           const std::vector<std::string>& layers) = 0;
};

}  // namespace lf
