#include "model/extractors/torchscript.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/extractors/preprocessing.h"

namespace lf {
namespace {

constexpr int64_t kInceptionSide = 299, kProbeSide = 224;
constexpr int64_t kFewestFramesOfI3d = 9;
constexpr int64_t kFramesAtOnce = 32;

enum class Convention { kPlain, kInception, kI3d };

// The first line, without the backtrace that torch adds.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return printable(text.substr(0, text.find('\n')));
}

Convention convention_of(const torch::jit::Module& module, const std::string& file) {
  const auto method = module.find_method("forward");
  if (!method) {
    fail(Code::kCheckpoint, printable(file),
         " has no forward(), so it is no extractor; script a module that returns features");
  }
  const auto takes = [&](const char* argument) {
    return method->function().getSchema().argumentIndexWithName(argument).has_value();
  };
  if (!takes("return_features")) return Convention::kPlain;
  return takes("rescale") && takes("resize") ? Convention::kI3d : Convention::kInception;
}

class TorchScript : public CheckedExtractor {
 public:
  TorchScript(torch::jit::Module module, std::string file, const std::string& hash,
              Preprocessing id, at::Device device)
      : CheckedExtractor(hash, kFramesAtOnce, device),
        module_(std::move(module)),
        file_(std::move(file)),
        id_(id),
        device_(device),
        convention_(convention_of(module_, file_)) {
    switch (convention_) {
      case Convention::kInception:
        layer_ = {"2048", 2048};
        break;
      case Convention::kI3d:
        layer_ = {"logits", 400};
        frames_ = kFewestFramesOfI3d;
        break;
      case Convention::kPlain:
        frames_ = frames_of_module();
        layer_ = {"features", probe()};
        break;
    }
    if (convention_ != Convention::kInception && id != Preprocessing::kTorch) {
      fail(Code::kUsage, printable(file_), " brings its own preprocessing; leave ", name_of(id),
           " out");
    }
  }

  std::string name() const override {
    return convention_ == Convention::kInception ? "inception"
           : convention_ == Convention::kI3d     ? "i3d"
                                                 : "torchscript";
  }
  std::vector<ExtractorLayer> layers() const override { return {layer_}; }
  int64_t frames() const override { return frames_; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    const at::Tensor made = call(input_of(clips.to(device_)));
    if (made.dim() != 2 || made.size(0) != clips.size(0) || made.size(1) != layer_.dim) {
      fail(Code::kCheckpoint, printable(file_), " gave ", shape_text(made.sizes()), " for ",
           clips.size(0), " clips, expected [", clips.size(0), ", ", layer_.dim,
           "]; it is another network");
    }
    return std::vector<at::Tensor>(wanted.size(), made);
  }

 private:
  int64_t frames_of_module() const {
    if (!module_.hasattr("frames")) return 1;
    const c10::IValue frames = module_.attr("frames");
    return frames.isInt() ? std::max<int64_t>(1, frames.toInt()) : 1;
  }

  // The width of the features, measured on black pixels.
  int64_t probe() const {
    std::vector<int64_t> shape = {1, 3, kProbeSide, kProbeSide};
    if (frames_ > 1) shape.insert(shape.begin() + 2, frames_);
    const at::NoGradGuard no_grad;
    const at::Tensor made = call(at::zeros(shape, at::TensorOptions(at::kFloat).device(device_)));
    if (made.dim() != 2 || made.size(0) != 1) {
      fail(Code::kCheckpoint, printable(file_), " gave ", shape_text(made.sizes()),
           " for one image, ",
           "expected [1, features]; script a module that returns one row an image");
    }
    return made.size(1);
  }

  at::Tensor input_of(const at::Tensor& clips) const {
    const at::Tensor frames = clips.flatten(0, 1);
    if (convention_ == Convention::kInception && id_ != Preprocessing::kTf1) {
      // It resizes as tf1 does, a no-op for 299 x 299, and computes (x - 128) / 128.
      return prepare_images(frames, id_, kInceptionSide) * 128 + 128;
    }
    const at::Tensor x = rgb_images(frames).contiguous();
    if (frames_ == 1) return x;
    return x.unflatten(0, {clips.size(0), clips.size(1)}).transpose(1, 2).contiguous();
  }

  at::Tensor call(const at::Tensor& input) const {
    torch::jit::Kwargs words;
    if (convention_ != Convention::kPlain) words["return_features"] = true;
    if (convention_ == Convention::kI3d) words["rescale"] = words["resize"] = true;
    c10::IValue made;
    try {
      torch::jit::Module module = module_;  // a shallow copy; forward() is not const
      made = module.forward({input}, words);
    } catch (const std::exception& error) {
      fail(Code::kCheckpoint, printable(file_), " cannot be called with ",
           shape_text(input.sizes()), ": ", first_line(error), "; it is another network");
    }
    if (!made.isTensor()) {
      fail(Code::kCheckpoint, printable(file_), " gives ", made.tagKind(),
           ", expected one tensor [N, features]; script a module that gives it");
    }
    return made.toTensor();
  }

  torch::jit::Module module_;
  std::string file_;
  Preprocessing id_;
  at::Device device_;
  Convention convention_;
  ExtractorLayer layer_;
  int64_t frames_ = 1;
};

}  // namespace

std::unique_ptr<Extractor> load_torchscript(const std::string& file, const std::string& hash,
                                            Preprocessing id, at::Device device) {
  torch::jit::Module module("none");
  try {
    module = torch::jit::load(file, device);
  } catch (const std::exception& error) {
    fail(Code::kCheckpoint, printable(file), " is no TorchScript that can be read (",
         first_line(error),
         "); if it holds a state_dict, make safetensors of it with "
         "tools/convert_weights");
  }
  module.eval();
  return std::make_unique<TorchScript>(std::move(module), file, hash, id, device);
}

}  // namespace lf
