#include "run/adapters.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "config/config.h"

namespace lf {
namespace {

void require_adapters(const Config& config, const std::string& where) {
  if (config.train().lora().rank() > 0) return;
  fail(Code::kUsage, printable(where),
       " has no adapters: it was trained without train.lora.rank; leave --kind out");
}

}  // namespace

bool is_adapter(const std::string& name) {
  return name.ends_with(str(".", kAdapterA)) || name.ends_with(str(".", kAdapterB));
}

TensorMetadata metadata_without_adapters(TensorMetadata metadata) {
  const Config config = parse_config(metadata.at("config"), "the config of exported weights");
  metadata["config"] = print_config(config_without_adapters(config));
  return metadata;
}

Config config_without_adapters(Config config) {
  config.mutable_train()->clear_lora();
  return config;
}

// The weights of the maps that have an adapter. Code::kCheckpoint unless each has a whole one.
static std::set<std::string> adapted_maps(const std::vector<TensorLayout>& layouts) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorLayout& layout : layouts) shapes[layout.name] = layout.shape;
  std::set<std::string> maps;
  for (const auto& [name, shape] : shapes) {
    if (!is_adapter(name)) continue;
    const std::string prefix = name.substr(0, name.size() - std::string(kAdapterA).size());
    const auto w = shapes.find(prefix + "weight"), a = shapes.find(prefix + kAdapterA),
               b = shapes.find(prefix + kAdapterB);
    const bool whole = w != shapes.end() && a != shapes.end() && b != shapes.end() &&
                       w->second.size() >= 2 && a->second.size() == 2 && b->second.size() == 2 &&
                       a->second[1] == w->second[1] && b->second[0] == w->second[0] &&
                       a->second[0] == b->second[1] &&
                       std::all_of(w->second.begin() + 2, w->second.end(),
                                   [](int64_t extent) { return extent == 1; });
    if (!whole) {
      fail(Code::kCheckpoint, "the adapter of '", printable(prefix),
           "weight' has not the shapes of that map, which is damaged or of another model");
    }
    maps.insert(w->first);
  }
  return maps;
}

LoadableTensors with_merged_adapters(LoadableTensors tensors, const Config& config) {
  const std::set<std::string> maps = adapted_maps(tensors.layouts);
  if (maps.empty()) return tensors;
  std::erase_if(tensors.layouts, [](const auto& layout) { return is_adapter(layout.name); });
  const double scale = Tuning::of(config.train()).scale;
  tensors.load = [load = std::move(tensors.load), maps, scale](const std::string& name) {
    const at::Tensor weight = load(name);
    if (!maps.contains(name)) return weight;
    const std::string prefix = name.substr(0, name.size() - std::string("weight").size());
    const auto single = [&](const char* end) { return load(prefix + end).to(at::kFloat); };
    const at::NoGradGuard no_grad;
    const Adapter adapter{single(kAdapterA), single(kAdapterB), scale};
    return adapted(weight.to(at::kFloat), adapter).to(weight.scalar_type());
  };
  return tensors;
}

LoadableTensors adapters_alone(LoadableTensors tensors, const Config& config,
                               const std::string& where) {
  require_adapters(config, where);
  // Of what the model's tensors are, only those that a gradient moved: buffers match no pattern.
  const Tuning tuning = Tuning::of(config.train());
  std::erase_if(tensors.layouts,
                [&](const TensorLayout& layout) { return !tuning.trains(layout.name); });
  return tensors;
}

[[noreturn]] static void refuse_adapters(const std::string& file, const std::string& why) {
  fail(
      Code::kUsage, printable(file), " ", why,
      "; give a file of `lastframe export RUN --kind adapters --out FILE` and the weights that its "
      "run began with");
}

LoadableTensors with_adapters_of(LoadableTensors base, const std::string& file,
                                 TensorMetadata* metadata) {
  const auto opened = std::make_shared<SafetensorsFile>(real_file_system(), file);
  const auto kind = opened->metadata().find("kind"), text = opened->metadata().find("config");
  if (text == opened->metadata().end() || kind == opened->metadata().end() ||
      kind->second != kAdaptersKind) {
    refuse_adapters(file, "holds no adapters");
  }
  std::erase_if(base.layouts,
                [&](const TensorLayout& layout) { return opened->find(layout.name) != nullptr; });
  for (const TensorEntry& entry : opened->tensors()) base.layouts.push_back(entry.layout);
  base.load = [load = std::move(base.load), opened](const std::string& name) {
    const TensorEntry* entry = opened->find(name);
    return entry != nullptr ? read_tensor(*opened, *entry) : load(name);
  };
  const std::string kind_of_base = metadata->at("kind");
  *metadata = metadata_without_adapters(opened->metadata());
  (*metadata)["kind"] = kind_of_base;
  try {
    return with_merged_adapters(std::move(base),
                                parse_config(text->second, "the config in " + printable(file)));
  } catch (const Error& error) {
    if (error.code() != Code::kCheckpoint) throw;
    refuse_adapters(file, str("does not fit: ", error.what()));
  }
}

ExportedTensors exported_weights(const Checkpoint& checkpoint, const std::string& kind,
                                 const std::string& adapters) {
  const Config config = parse_config(checkpoint.manifest().config(),
                                     "the config in " + printable(checkpoint.folder()));
  const bool has_adapters = config.train().lora().rank() > 0;
  const bool merges = kind == "merged" || (kind.empty() && has_adapters) || !adapters.empty();
  if (!merges && kind != kAdaptersKind) return exported_tensors(checkpoint, kind);
  const std::string weights = checkpoint.has("ema") ? "ema" : "model";
  LoadableTensors tensors = tensors_of(checkpoint, weights);
  TensorMetadata metadata = checkpoint.export_metadata(weights);
  if (!adapters.empty()) {
    if (has_adapters) {
      fail(Code::kUsage, printable(checkpoint.folder()),
           " has adapters of its own; --adapters merges those of another run into weights without");
    }
    tensors = with_adapters_of(std::move(tensors), adapters, &metadata);
  } else if (kind == kAdaptersKind) {
    tensors = adapters_alone(std::move(tensors), config, checkpoint.folder());
    metadata["kind"] = kAdaptersKind;
  } else {
    require_adapters(config, checkpoint.folder());
    tensors = with_merged_adapters(std::move(tensors), config);
    metadata = metadata_without_adapters(std::move(metadata));
  }
  return {std::move(tensors), std::move(metadata), kind == kAdaptersKind ? kind : "merged"};
}

void load_merged(const LoadableTensors& tensors, const std::string& where,
                 const ParameterTable& table) {
  std::vector<NamedTensor> into = table.weights();
  into.insert(into.end(), table.buffers().begin(), table.buffers().end());
  std::vector<TensorLayout> asked;
  for (const NamedTensor& named : into) asked.push_back(layout_of(named));
  require_same(printable(where), asked, tensors.layouts);
  for (const NamedTensor& named : into) named.tensor.detach().copy_(tensors.load(named.name));
}

}  // namespace lf
