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

const char* name_of(Preprocessing id);  // "torch"
// Code::kUsage for another word than torch, tf1 and clean.
Preprocessing parse_preprocessing(const std::string& name);

// "[2, 3, 4]", for messages.
std::string shape_text(at::IntArrayRef shape);

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

// What the extractors of this house share: what is asked is checked (Code::kUsage), what comes out
// is finite (Code::kNotFinite), and clips pass in parts that fit the cache.
class CheckedExtractor : public Extractor {
 public:
  std::string hash() const override { return hash_; }
  std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                   const std::vector<std::string>& layers) final;

 protected:
  CheckedExtractor(std::string hash, int64_t frames_at_once)
      : hash_(std::move(hash)), frames_at_once_(frames_at_once) {}
  // For some of the clips, whose shape and layers have been checked; without gradients.
  virtual std::vector<at::Tensor> part(const at::Tensor& clips_NTHWC,
                                       const std::vector<std::string>& layers) const = 0;

 private:
  void check(const at::Tensor& clips_NTHWC, const std::vector<std::string>& layers) const;
  at::Tensor no_rows(const std::string& layer) const;

  std::string hash_;
  int64_t frames_at_once_;
};

}  // namespace lf
