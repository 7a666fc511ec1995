#include "run/exported_model.h"

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/tensors.h"
#include "config/config.h"
#include "run/older_programs.h"

namespace lf {

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
  return model;
}

}  // namespace lf
