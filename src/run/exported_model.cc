#include "run/exported_model.h"

#include <map>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/tensors.h"
#include "config/config.h"
#include "run/adapters.h"
#include "run/older_programs.h"

namespace lf {

// Of a file that holds a run's weights as they are, adapters apart.
static void merge_adapters(ExportedModel& model) {
  LoadableTensors apart;
  std::map<std::string, at::Tensor> by_name;
  for (const NamedTensor& named : model.tensors) {
    apart.layouts.push_back(layout_of(named));
    by_name[named.name] = named.tensor;
  }
  apart.load = [&by_name](const std::string& name) { return by_name.at(name); };
  const LoadableTensors merged = with_merged_adapters(apart, model.config);
  model.tensors.clear();
  for (const TensorLayout& layout : merged.layouts) {
    model.tensors.push_back({layout.name, merged.load(layout.name)});
  }
  model.config = config_without_adapters(model.config);
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
  std::vector<std::string> names;
  for (const NamedTensor& named : model.tensors) names.push_back(named.name);
  complete_config(model.config, names);
  if (model.config.train().lora().rank() > 0) merge_adapters(model);
  return model;
}

}  // namespace lf
