// `lastframe import`: weights of another program's network as a file of ours.
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "checkpoint/relayout.h"
#include "config/config.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/version.h"
#include "run/clips.h"
#include "run/exported_model.h"

namespace lf {
namespace {

// As `lastframe export RUN --out` writes them.
TensorMetadata export_metadata(const Config& config, const ClipShape& shape) {
  std::vector<std::string> sides;
  for (const int side : shape.sides()) sides.push_back(std::to_string(side));
  return {{"format", "pt"},
          {"kind", "model"},
          {"config", print_config(config)},
          {"clip_shape", join(sides, ",")},
          {"images", "0"},
          {"producer", "lastframe " + version()}};
}

LoadableTensors loadable(const std::vector<NamedTensor>& tensors) {
  LoadableTensors made;
  for (const NamedTensor& named : tensors) made.layouts.push_back(layout_of(named));
  made.load = [found = by_name(tensors)](const std::string& name) {
    return found.at(name).detach().contiguous();
  };
  return made;
}

int run_import(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& path = arguments.positional()[0];
  const NetworkLayout& layout = layout_of_name(arguments.get("--layout"));
  Config config = config_of(arguments);
  make_paths_absolute(config);
  FileSystem& files = real_file_system();
  if (!files.exists(path)) arguments.refuse("there is no file ", printable(path));
  const SafetensorsFile file(files, path);
  const ClipShape shape = shape_of_config(config);
  const std::unique_ptr<Model> model =
      make_model(without_perceptual_loss(config), shape, at::kCPU, {}, open_export);
  std::vector<NamedTensor> tensors = model->parameters().weights();
  const std::vector<NamedTensor>& buffers = model->parameters().buffers();
  tensors.insert(tensors.end(), buffers.begin(), buffers.end());
  read_layout(layout, config, file, tensors);
  const std::string out = arguments.get("--out");
  publish_tensor_file(files, out, loadable(tensors), export_metadata(config, shape));
  log_written(out, str("the network of ", path, ", which is in the layout ", layout.name));
  return 0;
}

constexpr Option kImportOptions[] = {
    {"--layout",
     text("NAME"),
     "layout of the file (see `lastframe list layouts`)",
     {.required = ""}},
    kConfigOption,
    set_option_of("source|recipe|store|model|train"),
    {"--out", output("FILE", ".safetensors"), "write the network", {.required = ""}},
};

}  // namespace

const Command kImportCommand = {
    .name = "import",
    .positional = "FILE",
    .summary = "takes weights that another program trained",
    .details =
        "The config's model must be that of FILE, a safetensors file, and source and recipe say "
        "which clips it takes. The file written is like one of `lastframe export RUN --out`: a "
        "tokenizer of latent diffusion, the classifier of a metric, or what a training starts "
        "from. Nothing is written unless every tensor has its place. What the layout leaves out, "
        "such as a discriminator, is as new.",
    .example =
        "lastframe import vae.safetensors --layout diffusers-autoencoder-kl --out "
        "vae-ours.safetensors --config configs/published/stable-diffusion-vae.pbtxt",
    .options = kImportOptions,
    .run = run_import,
};

}  // namespace lf
