#include "model/model.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/error.h"
#include "kernels/gpu/device.h"
#include "model/autoencoder.h"
#include "model/classifier.h"
#include "model/denoisers/diffusion_model.h"
#include "model/denoisers/rvd.h"
#include "model/refills.h"
#include "model/tokens/code_prior.h"
#include "model/tokens/cvivit.h"
#include "model/tokens/vqvae.h"

namespace lf {

Clips Clips::slice(int64_t from, int64_t to) const {
  Clips part{x_BTHWC.slice(0, from, to), labels_B.slice(0, from, to), seed, first_position + from};
  part.label_range = label_range;
  part.batch_position = batch_position;
  part.refills = refills;
  if (images_BNHWC.defined()) part.images_BNHWC = images_BNHWC.slice(0, from, to);
  for (const NamedTensor& column : side) {
    part.side.push_back({column.name, column.tensor.slice(0, from, to)});
  }
  return part;
}

std::array<int64_t, 2> label_range(const Clips& clips) {
  if (clips.label_range) return *clips.label_range;
  return {clips.labels_B.min().item<int64_t>(), clips.labels_B.max().item<int64_t>()};
}

at::Tensor frames_as_images(const at::Tensor& x_BTHWC) {
  return x_BTHWC.flatten(0, 1).permute({0, 3, 1, 2});
}

at::Tensor images_as_frames(const at::Tensor& images, int64_t frames) {
  const at::Tensor x_NHWC = images.permute({0, 2, 3, 1});
  return x_NHWC.reshape(
      {x_NHWC.size(0) / frames, frames, x_NHWC.size(1), x_NHWC.size(2), x_NHWC.size(3)});
}

namespace {

// The two implementations of one kind of keyed draw.
struct Draw {
  void (*on_host)(const Stream&, uint64_t, size_t, float*);
  void (*DeviceKernels::*on_device)(const KeyedNumbers&, float*, void*);
};

at::Tensor keyed_by_kernel(const Clips& clips, const Stream& stream,
                           const std::vector<int64_t>& sizes, const Draw& draw) {
  const at::Device device = clips.x_BTHWC.device();
  at::Tensor out = at::empty(sizes, at::TensorOptions().dtype(at::kFloat).device(device));
  const auto key = stream_key(stream, 0);
  KeyedNumbers wanted{key[0],       key[1],
                      stream.b,     clips.first_position,
                      clips.size(), clips.size() == 0 ? 0 : out.numel() / clips.size()};
  if (clips.refills != nullptr) {
    wanted.first = clips.refills->offset(clips);
    wanted.position = clips.refills->position();
  }
  const c10::impl::VirtualGuardImpl guard(device.type());
  (device_kernels()->*draw.on_device)(wanted, out.mutable_data_ptr<float>(),
                                      guard.getStreamNativeHandle(guard.getStream(device)));
  return out;
}

at::Tensor keyed(const Clips& clips, Purpose purpose, uint32_t layer, at::IntArrayRef shape,
                 const Draw& draw) {
  std::vector<int64_t> sizes = {clips.size()};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  const Stream stream{clips.seed, purpose, 0, layer};
  if (clips.x_BTHWC.is_cuda() && device_kernels() != nullptr) {
    return keyed_by_kernel(clips, stream, sizes, draw);
  }
  const HostChoice make = [stream, sizes, draw](const Clips& keys) -> std::vector<at::Tensor> {
    at::Tensor out = at::empty(sizes, at::kFloat);
    const auto row = static_cast<size_t>(keys.size() == 0 ? 0 : out.numel() / keys.size());
    auto* data = out.mutable_data_ptr<float>();
    for (int64_t i = 0; i < keys.size(); ++i) {
      Stream of_clip = stream;
      of_clip.a = static_cast<uint64_t>(keys.first_position + i);
      draw.on_host(of_clip, 0, row, data + static_cast<size_t>(i) * row);
    }
    return {out};
  };
  return chosen_on_host(clips, make)[0];
}

}  // namespace

at::Tensor keyed_uniform(const Clips& clips, Purpose purpose, uint32_t layer,
                         at::IntArrayRef shape) {
  return keyed(clips, purpose, layer, shape, {uniform, &DeviceKernels::keyed_uniform});
}

at::Tensor keyed_normal(const Clips& clips, Purpose purpose, uint32_t layer,
                        at::IntArrayRef shape) {
  return keyed(clips, purpose, layer, shape, {normal, &DeviceKernels::keyed_normal});
}

at::Tensor Model::reconstruct(const Clips& /*clips*/) {
  fail(Code::kUsage, "this model does not reconstruct clips; it can only be sampled from");
}

at::Tensor Model::sample(const SampleRequest& /*request*/) {
  fail(Code::kUsage,
       "this model cannot sample clips unconditionally; it can only reconstruct them");
}

Config without_perceptual_loss(Config config) {
  ModelConfig& model = *config.mutable_model();
  if (model.has_vqvae()) model.mutable_vqvae()->clear_perceptual();
  if (model.has_cvivit()) model.mutable_cvivit()->clear_perceptual();
  return config;
}

std::unique_ptr<Model> make_model(const Config& config, const ClipShape& shape, at::Device device,
                                  const SumOverRanks& sum, const OpenExport& open) {
  const auto kind = config.model().kind_case();
  if (config.model().has_diffusion() && kind != ModelConfig::kUnet &&
      kind != ModelConfig::kUnet3D && kind != ModelConfig::kDit && kind != ModelConfig::kRvd &&
      kind != ModelConfig::KIND_NOT_SET) {
    fail(Code::kUsage,
         "model.diffusion is for model.unet, model.unet3d, model.dit and model.rvd, and the config "
         "chooses another model; leave it out");
  }
  switch (kind) {
    case ModelConfig::kAutoencoder:
      return make_autoencoder(config.model().autoencoder(), shape, config.train(), device);
    case ModelConfig::kVqvae:
    case ModelConfig::kCvivit:
      return make_tokenizer(config, shape, device, sum, open);
    case ModelConfig::kCodePrior:
      return make_code_prior(config, shape, device, open);
    case ModelConfig::kUnet:
    case ModelConfig::kUnet3D:
    case ModelConfig::kDit:
      return std::make_unique<DiffusionModel>(config, shape, device, sum, open);
    case ModelConfig::kRvd:
      return std::make_unique<Rvd>(config, shape, device, sum);
    case ModelConfig::kClassifier:
      return make_classifier(config.model().classifier(), shape, config.train(), device);
    case ModelConfig::KIND_NOT_SET:
      break;
  }
  std::vector<std::string> kinds;
  const auto* oneof = ModelConfig::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i)
    kinds.push_back("model." + oneof->field(i)->name());
  fail(Code::kUsage, "the config chooses no model; give one of ", join(kinds, ", "),
       ", such as --set ", kinds.front(), "={}");
}

std::unique_ptr<Tokenizer> make_tokenizer(const Config& config, const ClipShape& shape,
                                          at::Device device, const SumOverRanks& sum,
                                          const OpenExport& open) {
  if (config.model().has_vqvae()) return make_vqvae(config, shape, device, sum, open);
  if (config.model().has_cvivit()) return make_cvivit(config, shape, device, sum, open);
  fail(Code::kUsage, "a prior needs the codes of model.vqvae or model.cvivit, and this is neither");
}

}  // namespace lf
