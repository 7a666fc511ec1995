#include "run/run_model.h"

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/retention.h"
#include "config/config.h"

namespace lf {

std::string newest_checkpoint(const std::string& folder) {
  FileSystem& files = real_file_system();
  if (files.exists(folder + "/manifest.pbtxt")) return folder;
  const auto candidate = choose_checkpoint(files, folder);
  if (!candidate) {
    fail(Code::kCheckpoint, printable(folder),
         " holds no checkpoint; give the folder of a run that has saved one");
  }
  return candidate->folder;
}

Config run_config(const CheckpointManifest& manifest, const std::string& checkpoint,
                  const std::vector<std::string>& sets) {
  Config config = parse_config(manifest.config(), "the config in " + checkpoint);
  for (const std::string& set : sets) set_option(config, set);
  check_ranges(config);
  return config;
}

std::string weights_text(const CheckpointManifest& manifest, const Config& config) {
  Config how;
  *how.mutable_model() = config.model();
  std::string text = str("image ", manifest.images(), "\n", print_config(how));
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "model" && file.kind() != "ema") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      text += str("\n", file.kind(), " ", tensor.name(), " ", tensor.crc32c());
    }
  }
  return text;
}

RunModel open_run_model(const std::string& checkpoint, at::Device device,
                        const std::vector<std::string>& sets, const ModelMaker& make) {
  const Checkpoint open = Checkpoint::open(real_file_system(), checkpoint);
  const CheckpointManifest& manifest = open.manifest();
  RunModel run;
  run.config = run_config(manifest, checkpoint, sets);
  if (manifest.clip_shape_size() != 4) {
    fail(Code::kCheckpoint, printable(checkpoint),
         " does not say of what shape its clips are, an older program wrote it; train the run for "
         "another step with this one");
  }
  run.shape = {manifest.clip_shape(0), manifest.clip_shape(1), manifest.clip_shape(2),
               manifest.clip_shape(3)};
  run.manifest = manifest;
  run.model = make(without_perceptual_loss(run.config), run.shape, device, {}, open_export);
  const ParameterTable& table = run.model->parameters();
  std::vector<NamedTensor> all = table.weights();
  all.insert(all.end(), table.buffers().begin(), table.buffers().end());
  open.load_into("model", all);
  run.weights = open.has("ema") ? "ema" : "model";
  if (run.weights == "ema") open.load_into("ema", table.weights());
  return run;
}

ExportedModel open_export(const std::string& path) {
  if (!real_file_system().exists(path)) {
    fail(Code::kUsage, printable(path),
         " is not there; give a file that `lastframe export RUN --out FILE` wrote");
  }
  const SafetensorsFile file(real_file_system(), path);
  const auto config = file.metadata().find("config");
  ExportedModel model;
  if (config != file.metadata().end()) {
    model.config = parse_config(config->second, "the config in " + printable(path));
  }
  model.tensors = read_tensors(file);
  return model;
}

}  // namespace lf
