// `lastframe export`: clips of a store as an array or pictures, or the weights of a run, for other
// programs and in their layouts.
#include "data/store/export.h"

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/relayout.h"
#include "checkpoint/retention.h"
#include "config/config.h"
#include "data/store/store.h"
#include "launch/commands.h"
#include "launch/folder_kind.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/store_tasks.h"
#include "run/adapters.h"
#include "run/older_programs.h"
#include "train/post_hoc.h"

namespace lf {
namespace {

void parse_range(const Arguments& arguments, uint64_t* first, uint64_t* last) {
  if (!arguments.has("--range")) return;
  const std::vector<std::string> words = split(arguments.get("--range"), ':');
  if (words.size() != 2 || (!words[0].empty() && !parse(words[0], first)) ||
      (!words[1].empty() && !parse(words[1], last))) {
    arguments.refuse("--range is '", printable(arguments.get("--range")),
                     "', expected FIRST:LAST, such as 0:100 (LAST is not included)");
  }
}

void export_clips(const std::string& folder, const Arguments& arguments) {
  FileSystem& files = real_file_system();
  const std::shared_ptr<const Store> store = Store::open(folder);
  uint64_t first = 0, last = store->clips();
  parse_range(arguments, &first, &last);
  const uint32_t draw = draw_of(arguments, *store);
  const std::string out = arguments.get(arguments.has("--npy") ? "--npy" : "--png");
  if (arguments.has("--npy")) {
    export_npy(files, *store, out, first, last, draw);
  } else {
    export_png(files, *store, out, first, last, draw);
  }
  log_written(out, counted(last - first, "clip"));
}

// Of the averages that all checkpoints of a run track.
void export_post_hoc(const std::string& run, const Arguments& arguments) {
  FileSystem& files = real_file_system();
  if (!files.exists(checkpoints_folder(run))) {
    arguments.refuse(printable(run), " is one checkpoint; --ema-width needs the run's folder");
  }
  const std::string out = arguments.get("--out");
  export_average(files, run, arguments.number("--ema-width"), out);
  log_written(out, "the average of relative width " + arguments.get("--ema-width"));
}

inline constexpr char kForFiles[] = "for exported files";
inline constexpr char kForWeights[] = "for runs and checkpoints|for exported files";

const char* kind_of_exported(const Arguments& arguments) {
  FileInfo info;
  const bool is_file = real_file_system().info(arguments.positional()[0], &info) && !info.is_folder;
  return is_file ? kForFiles : kind_of_folder(arguments);
}

Config config_in(const ExportedTensors& exported, const std::string& where) {
  const auto text = exported.metadata.find("config");
  if (text == exported.metadata.end()) {
    fail(Code::kUsage, where,
         " carries no config; give a file that `lastframe export RUN --out FILE` wrote");
  }
  Config config = parse_config(text->second, "the config in " + where);
  std::vector<std::string> names;
  for (const TensorLayout& tensor : exported.tensors.layouts) names.push_back(tensor.name);
  complete_config(config, names);
  return config;
}

// In the type and the layout that are asked for.
void publish_weights(ExportedTensors exported, const std::string& from,
                     const Arguments& arguments) {
  const std::string where = printable(from);
  LoadableTensors& tensors = exported.tensors;
  if (arguments.has("--layout")) {
    const NetworkLayout& layout = layout_of_name(arguments.get("--layout"));
    const auto before = exported.metadata.find("layout");
    if (before != exported.metadata.end()) {
      arguments.refuse(where, " is in the layout ", printable(before->second),
                       " already; give a run, or a file of `lastframe import`");
    }
    const Config config = config_in(exported, where);
    tensors = in_layout(layout, config, std::move(tensors), where);
    exported.metadata["layout"] = layout.name;
  }
  if (arguments.has("--dtype")) {
    const std::string name = arguments.get("--dtype");
    const DType type = name == "bf16" ? DType::kBF16 : name == "fp16" ? DType::kF16 : DType::kF32;
    tensors = in_type(type, std::move(tensors), where);
  }
  publish_tensor_file(real_file_system(), arguments.get("--out"), tensors, exported.metadata);
}

void export_file(const std::string& path, const Arguments& arguments) {
  const SafetensorsFile file(real_file_system(), path);
  ExportedTensors exported{{}, file.metadata(), ""};
  for (const TensorEntry& entry : file.tensors()) {
    exported.tensors.layouts.push_back(entry.layout);
  }
  exported.tensors.load = [&file](const std::string& name) {
    return read_tensor(file, *file.find(name));
  };
  publish_weights(std::move(exported), path, arguments);
  log_written(arguments.get("--out"), "the tensors of " + path);
}

void export_run(const std::string& folder, const Arguments& arguments) {
  FileSystem& files = real_file_system();
  std::string chosen = folder;
  if (!is_checkpoint_folder(folder)) {
    const auto candidate = choose_checkpoint(files, folder);
    if (!candidate) {
      fail(Code::kCheckpoint, "the run ", printable(folder),
           " has no checkpoint yet; wait for its first, or give a checkpoint's folder");
    }
    chosen = candidate->folder;
  }
  const Checkpoint checkpoint = Checkpoint::open(files, chosen);
  ExportedTensors exported =
      exported_weights(checkpoint, arguments.get("--kind"), arguments.get("--adapters"));
  const std::string kind = exported.kind;
  publish_weights(std::move(exported), chosen, arguments);
  log_written(arguments.get("--out"), str("the tensors of kind '", kind, "' of ", chosen));
}

int run_export(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& folder = arguments.positional()[0];
  if (arguments.mode() == kForStores) {
    export_clips(folder, arguments);
  } else if (arguments.mode() == kForFiles) {
    export_file(folder, arguments);
  } else if (arguments.has("--ema-width")) {
    export_post_hoc(folder, arguments);
  } else {
    export_run(folder, arguments);
  }
  return 0;
}

constexpr Option kExportOptions[] = {
    {"--npy",
     output("FILE", ".npy"),
     "write one NumPy array [n, T, H, W, C]; fp16 frames stay fp16, and the last frame beside them "
     "is then value / 127.5 - 1",
     {.only_with = kForStores}},
    {"--png",
     output("FOLDER", "/"),
     "write FOLDER/clip-000000000/frame-000.png and so on",
     {.only_with = kForStores}},
    {"--range",
     text("FIRST:LAST"),
     "clips FIRST to LAST - 1",
     {.computed = "all", .only_with = kForStores}},
    {"--draw",
     integer(0, 1'000'000'000),
     "draw of the corruptions",
     {.fallback = "0", .only_with = kForStores, .needs = kRandomFrames}},
    {"--out",
     output("FILE", ".safetensors"),
     "write the weights as one safetensors file",
     {.only_with = kForWeights}},
    {"--layout",
     text("NAME"),
     "names, shapes and order of another program's network (see `lastframe list layouts`), which "
     "loads them strictly",
     {.computed = "our own", .only_with = kForWeights, .without = "--ema-width"}},
    {"--dtype",
     word("bf16|fp16|fp32"),
     "type of all floating-point tensors",
     {.computed = "as saved, fp32", .only_with = kForWeights, .without = "--ema-width"}},
    {"--kind",
     text("KIND"),
     "ema, model or optimizer; of a run with adapters (train.lora) also merged or adapters, which "
     "is A and B alone",
     {.computed =
          "ema, the averaged weights; model where no average was kept; with adapters merged",
      .only_with = kForRuns,
      .without = "--ema-width"}},
    {"--adapters",
     text("FILE"),
     "merge these adapters, a file of --kind adapters of a run that began with these weights",
     {.only_with = kForRuns, .without = "--kind|--ema-width"}},
    {"--ema-width",
     number(0, 0.28),
     "of a run: the average with a power function of this relative width, computed from those that "
     "its checkpoints track (train.ema.tracked_widths)",
     {.only_with = kForRuns}},
};

}  // namespace

const Command kExportCommand = {
    .name = "export",
    .positional = "FOLDER",
    .summary = "writes clips of a store, or the weights of a run, for other programs",
    .details =
        "Clips become a NumPy array or PNG files. Of a run the newest whole checkpoint is "
        "exported; FOLDER may also be a checkpoint, or a file that an export of a run or "
        "`lastframe import` wrote. A discriminator, and the tokenizer of latent diffusion with the "
        "statistics of its latents, have no place in a layout and are left out.",
    .example =
        "lastframe export stores/cifar10 --npy clips.npy --range 0:100\n"
        "lastframe export stores/cifar10 --png clips\n"
        "lastframe export runs/first --out first.safetensors\n"
        "lastframe export runs/vae --out vae-theirs.safetensors --layout diffusers-autoencoder-kl",
    .options = kExportOptions,
    .run = run_export,
    .one_of = "--npy|--png|--out",
    .mode = kind_of_exported,
};

}  // namespace lf
