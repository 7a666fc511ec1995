// What the networks of checkpoints make of tensors in files, as floats, for comparison with other
// programs: `outputs_program CHECKPOINT IN OUT CHECKPOINT IN OUT ...`, of safetensors. Not a test.
//   vqvae, cvivit      x [B, T, H, W, C] -> latents, reconstruction and, if there are codes, ids
//   autoencoder, rvd   x [B, T, H, W, C] -> reconstruction
//   unet, unet3d, dit  z [B, T, H, W, C], the frames' time [T], index [T] and role [T], and if IN
//                      has them labels [B], text [B, ...] and small [B, T, H, W, C] -> image, the
//                      estimate; and if IN has seed [1], int64, sample: B clips
#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/tensors.h"
#include "model/denoisers/diffusion_model.h"
#include "model/tokens/tokenizer.h"
#include "run/run.h"

namespace lf {
namespace {

at::Tensor maybe(const TensorsByName& in, const std::string& name) {
  const auto found = in.find(name);
  return found == in.end() ? at::Tensor() : found->second;
}

std::vector<NamedTensor> of_tokenizer(Tokenizer& tokenizer, const at::Tensor& x) {
  std::vector<NamedTensor> out = {{"latents", tokenizer.latents(x).contiguous()}};
  if (tokenizer.codes() > 0) out.push_back({"ids", tokenizer.encode(x).contiguous()});
  out.push_back({"reconstruction", tokenizer.clips_of_latents(tokenizer.latents(x)).contiguous()});
  return out;
}

std::vector<NamedTensor> of_denoiser(DiffusionModel& model, const TensorsByName& in) {
  const at::Tensor &z = in.at("z"), &time = in.at("time");
  FrameWindow window;
  std::vector<NoiseLevel> levels;
  for (int64_t t = 0; t < z.size(1); ++t) {
    window.index.push_back(in.at("index")[t].item<int64_t>());
    window.role.push_back(static_cast<FrameRole>(in.at("role")[t].item<int64_t>()));
    levels.push_back(model.schedule().at(time[t].item<double>()));
  }
  const Conditioning conditioning{maybe(in, "labels"), maybe(in, "text"), maybe(in, "small")};
  std::vector<NamedTensor> out = {
      {"image", model.estimate(z, window, levels, conditioning).image.contiguous()}};
  if (!in.contains("seed")) return out;
  SampleRequest request;
  request.seed = static_cast<uint64_t>(in.at("seed").item<int64_t>());
  request.count = z.size(0);
  request.labels_B = conditioning.labels_B;
  request.text = conditioning.text;
  out.push_back({"sample", model.sample(request).contiguous()});
  return out;
}

void write_outputs(const std::string& checkpoint, const std::string& from, const std::string& to) {
  const at::NoGradGuard no_grad;
  Run run = open_run(checkpoint);
  run.load_model(at::kCPU);
  const TensorsByName in = by_name(load_tensor_file(real_file_system(), from));
  std::vector<NamedTensor> out;
  if (auto* tokenizer = dynamic_cast<Tokenizer*>(run.model.get())) {
    out = of_tokenizer(*tokenizer, in.at("x"));
  } else if (auto* denoiser = dynamic_cast<DiffusionModel*>(run.model.get())) {
    out = of_denoiser(*denoiser, in);
  } else {
    Clips clips;
    clips.x_BTHWC = in.at("x");
    out.push_back({"reconstruction", run.model->reconstruct(clips).contiguous()});
  }
  std::vector<TensorLayout> layouts;
  for (const NamedTensor& named : out) layouts.push_back(layout_of(named));
  const TensorsByName made = by_name(out);
  publish_tensor_file(real_file_system(), to, layouts, {},
                      [&](const TensorLayout& layout) { return made.at(layout.name); });
}

}  // namespace
}  // namespace lf

int main(int argc, char** argv) {
  try {
    lf::start_log("outputs_program", 0);
    for (int i = 1; i + 2 < argc; i += 3) lf::write_outputs(argv[i], argv[i + 1], argv[i + 2]);
  } catch (const lf::Error& error) {
    std::fprintf(stderr, "outputs_program: %s\n", error.what());
    return error.exit_status();
  }
  return 0;
}
