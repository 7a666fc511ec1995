// The interface of feature extractors: a network that maps images or clips to feature vectors, and
// the weight file it came from. Not a Model: it does not train and has no config. Weights come as
// named tensors, since model does not know checkpoint; eval/open_extractor.h reads the file.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lf {

// How bytes become Inception's input. The name is part of every result and cache key.
enum class Preprocessing {
  kTorch,  // pytorch-fid: bilinear with half-pixel centres, no antialias; 2x - 1
  kTf1,    // the original graph, torch-fidelity: bilinear without the half pixel; (x - 128) / 128
  kClean,  // clean-fid: Pillow's bicubic with antialias; then as tf1
};

const char* name_of(Preprocessing id);  // "torch"
// Throws Code::kUsage unless the name is torch, tf1 or clean.
Preprocessing parse_preprocessing(const std::string& name);

// "[2, 3, 4]", for messages.
std::string shape_text(at::IntArrayRef shape);

// Gives this thread back its number of threads, also after an exception.
class RestoredThreads {
 public:
  RestoredThreads() : count_(at::get_num_threads()) {}
  ~RestoredThreads() {
    if (at::get_num_threads() != count_) at::set_num_threads(count_);
  }
  RestoredThreads(const RestoredThreads&) = delete;
  RestoredThreads& operator=(const RestoredThreads&) = delete;
  int count() const { return count_; }

 private:
  const int count_;
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
  virtual int64_t frames() const = 0;  // 1: images; else the minimum of a clip
  // clips: uint8 [N,T,H,W,C]; for image extractors T = 1. Returns one fp32 tensor [N, dim] per
  // layer.
  virtual std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                           const std::vector<std::string>& layers) = 0;
  // Whether several threads may call features() at a time.
  virtual bool is_thread_safe() const { return false; }
};

// Base of our extractors: checks the request (Code::kUsage) and that features are finite
// (Code::kNotFinite), and splits clips into parts that fit the cache. On the CPU as many parts as
// at::get_num_threads() are computed at a time, one thread each: the bits do not depend on it.
class CheckedExtractor : public Extractor {
 public:
  std::string hash() const override { return hash_; }
  std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                   const std::vector<std::string>& layers) final;
  bool is_thread_safe() const final { return on_cpu_; }

 protected:
  CheckedExtractor(std::string hash, int64_t frames_at_once, at::Device device)
      : hash_(std::move(hash)), frames_at_once_(frames_at_once), on_cpu_(device.is_cpu()) {}
  // Features of some of the clips, already checked; without gradients. Thread-safe.
  virtual std::vector<at::Tensor> part(const at::Tensor& clips_NTHWC,
                                       const std::vector<std::string>& layers) const = 0;

 private:
  void check(const at::Tensor& clips_NTHWC, const std::vector<std::string>& layers) const;
  at::Tensor no_rows(const std::string& layer) const;

  std::string hash_;
  int64_t frames_at_once_;
  bool on_cpu_;
};

}  // namespace lf
