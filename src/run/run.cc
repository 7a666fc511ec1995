#include "run/run.h"

#include "base/error.h"
#include "checkpoint/retention.h"
#include "config/config.h"
#include "data/store/layout.h"
#include "run/adapters.h"
#include "run/exported_model.h"
#include "run/older_programs.h"

namespace lf {
namespace {

ClipShape shape_of(const CheckpointManifest& manifest, const std::string& folder) {
  if (manifest.clip_shape_size() != 4) {
    fail(Code::kCheckpoint, printable(folder),
         " does not say of what shape its clips are, an older program wrote it; train the run for "
         "another step with this one");
  }
  return {manifest.clip_shape(0), manifest.clip_shape(1), manifest.clip_shape(2),
          manifest.clip_shape(3)};
}

}  // namespace

std::string newest_checkpoint(const std::string& folder) {
  FileSystem& files = real_file_system();
  if (files.exists(folder + "/manifest.pbtxt")) return folder;
  FileInfo info;
  const bool there = files.info(folder, &info);
  if (!there || !info.is_folder || files.exists(index_path(folder))) {
    fail(Code::kUsage, !there ? "there is no folder " : "", printable(folder),
         !there           ? ""
         : info.is_folder ? " is a store"
                          : " is a file",
         "; expected the folder that `lastframe train --run` made, or one of its checkpoints");
  }
  const auto candidate = choose_checkpoint(files, folder);
  if (!candidate) {
    fail(Code::kCheckpoint, printable(folder),
         " holds no checkpoint; give the folder of a run that has saved one");
  }
  return candidate->folder;
}

Run open_run(const std::string& checkpoint_folder, const std::string& run_folder) {
  Checkpoint checkpoint = Checkpoint::open(real_file_system(), checkpoint_folder);
  Config config =
      parse_config(checkpoint.manifest().config(), "the config in " + checkpoint_folder);
  complete_config(config, checkpoint.manifest());
  const ClipShape shape = shape_of(checkpoint.manifest(), checkpoint_folder);
  return {.folder = run_folder,
          .checkpoint = std::move(checkpoint),
          .config = std::move(config),
          .shape = shape,
          .model = nullptr,
          .weights = {},
          .stores = {}};
}

Run open_run(World& world, const std::string& run_folder, const std::vector<std::string>& options,
             const std::string& checkpoint) {
  const std::string& named = checkpoint.empty() ? run_folder : checkpoint;
  Run run = open_run(world.broadcast(world.is_root() ? newest_checkpoint(named) : std::string()),
                     run_folder);
  run.set(options);
  return run;
}

void Run::set(const std::vector<std::string>& options) { set_options(config, options); }

void Run::load_model(at::Device on, const ModelMaker& make) {
  device = on;
  model = make(without_perceptual_loss(config_without_adapters(config)), shape, device, {},
               open_export);
  const ParameterTable& table = model->parameters();
  weights = checkpoint.has("ema") ? "ema" : "model";
  if (config.train().lora().rank() > 0) {
    load_merged(with_merged_adapters(tensors_of(checkpoint, weights), config), checkpoint.folder(),
                table);
    return;
  }
  std::vector<NamedTensor> all = table.weights();
  all.insert(all.end(), table.buffers().begin(), table.buffers().end());
  checkpoint.load_into("model", all);
  if (weights == "ema") checkpoint.load_into("ema", table.trained());
}

void Run::open_stores() { stores = open_run_stores(config, folder, manifest().store_id()); }

std::string arithmetic_key(const TrainConfig& config, at::Device device) {
  return str("on a ", device.is_cpu() ? "CPU" : "GPU", ", kernels ", Kernels_Name(config.kernels()),
             config.gpu_kernels() ? ", GPU kernels" : "");
}

std::string Run::making_key(Precision precision) const {
  Config how;
  *how.mutable_model() = config.model();
  std::string text = str("image ", images(), "\n", print_config(how));
  for (const CheckpointFile& file : manifest().file()) {
    if (file.kind() != "model" && file.kind() != "ema") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      text += str("\n", file.kind(), " ", tensor.name(), " ", tensor.crc32c());
    }
  }
  return str(text, "\n", Precision_Name(precision), " ", arithmetic_key(config.train(), device),
             "\n");
}

}  // namespace lf
