// `lastframe features`: the features that an extractor computes of images, as one NumPy array in
// the order of the images, for other programs and for `lastframe evaluate --features`. One process.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/stop.h"
#include "base/stop_signals.h"
#include "config/config.h"
#include "data/formats/npy.h"
#include "data/sources/source.h"
#include "eval/open_extractor.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"

namespace lf {
namespace {

// Images, an archive, videos or an array, under the options of the source that --set gives.
std::unique_ptr<Source> open_images(const Arguments& arguments) {
  const std::string path = arguments.get("--images");
  SourceConfig config = load_config("", arguments.sets()).source();
  const std::string kind = kind_at(path);
  const SourceConfig::KindCase chosen = config.kind_case();
  set_path(config, kind, path);
  if (chosen != SourceConfig::KIND_NOT_SET && chosen != config.kind_case()) {
    arguments.refuse("--set chooses a kind of source, and --images ", printable(path),
                     " is source.", kind, "; set options of that one, or source.size and others");
  }
  return open_source(config);
}

at::Tensor load_clips(const Source& source, uint64_t first, uint64_t count) {
  const ClipShape shape = source.shape();
  at::Tensor clips = at::empty(
      {static_cast<int64_t>(count), shape.frames, shape.height, shape.width, shape.channels},
      at::kByte);
  auto* into = clips.mutable_data_ptr<uint8_t>();
  for (uint64_t i = 0; i < count; ++i, into += shape.bytes()) {
    const Sample sample = source.load(first + i);
    LF_CHECK(sample.pixels.size() == shape.bytes(), "item ", source.name_of(first + i));
    std::memcpy(into, sample.pixels.data(), shape.bytes());
  }
  return clips;
}

ExtractorLayer find_layer(const Extractor& extractor, const Arguments& arguments) {
  std::vector<std::string> known;
  for (const ExtractorLayer& layer : extractor.layers()) known.push_back(layer.name);
  const std::string asked = arguments.get("--layer");
  for (const ExtractorLayer& layer : extractor.layers()) {
    if (layer.name == asked) return layer;
  }
  arguments.refuse("--layer is '", printable(asked), "'", did_you_mean(asked, known), "; ",
                   printable(arguments.get("--extractor")), " has the layers ", join(known, ", "));
}

// Writes the array a batch at a time; the file appears whole or not at all.
void extract(Extractor& extractor, const ExtractorLayer& layer, const Source& source,
             uint64_t batch, const std::string& out) {
  Progress progress("features", source.shape().frames > 1 ? "clips" : "images", source.size());
  publish_file(real_file_system(), out, out + ".tmp", [&](OutFile& file) {
    const std::string header = npy_header("<f4", {source.size(), static_cast<uint64_t>(layer.dim)});
    file.write(header.data(), header.size());
    for (uint64_t first = 0; first < source.size(); first += batch) {
      if (const StopReason reason = stop_requested(); reason != StopReason::kNone) {
        fail(Code::kInterrupted, "features was stopped by ", name_of(reason), "; run it again");
      }
      const uint64_t count = std::min(batch, source.size() - first);
      const at::Tensor rows =
          extractor.features(load_clips(source, first, count), {layer.name}).front();
      const at::Tensor host = rows.to(at::kCPU, at::kFloat).contiguous();
      file.write(host.const_data_ptr(), host.nbytes());
      progress.show(first + count);
    }
  });
  progress.finish(source.size());
}

int run_features(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string out = arguments.get("--out");
  const Preprocessing id = parse_preprocessing(arguments.get("--preprocessing"));
  const auto batch = static_cast<uint64_t>(arguments.integer("--batch"));
  if (arguments.has("--threads")) {
    at::set_num_threads(static_cast<int>(arguments.integer("--threads", 1)));
  }
  const Precision precision = arguments.precision();
  const std::unique_ptr<Source> source = open_images(arguments);
  const std::unique_ptr<Extractor> extractor =
      open_extractor(arguments.get("--extractor"), id, at::kCPU, KernelChoice{}, precision);
  const ExtractorLayer layer = find_layer(*extractor, arguments);
  const Clock::time_point begin = Clock::now();
  extract(*extractor, layer, *source, batch, out);
  const double seconds = seconds_since(begin);
  Json json;
  json.object([&] {
    json.field("n", source->size()).field("layer", layer.name).field("dim", layer.dim);
    json.field("extractor", extractor->name()).field("hash", extractor->hash());
    // Other extractors than Inception bring their own.
    const bool chosen = extractor->name().starts_with("inception");
    json.field("preprocessing", chosen ? name_of(id) : "own")
        .field("precision", Precision_Name(precision));
    json.field("seconds", seconds).field("out", out);
  });
  if (arguments.has("--json")) print(json.text() + "\n");
  log_written(out, str(human_count(source->size()), " rows of ", layer.dim, " values, ",
                       extractor->name(), " ", layer.name));
  return 0;
}

constexpr Option kFeaturesOptions[] = {
    {"--extractor",
     text("FILE"),
     "weights: safetensors as tools/convert_weights or `lastframe export` write them, or as DINOv2 "
     "and CLIP are published; FILE.onnx, a network of images; or TorchScript, which runs the code "
     "in the file: only use files you trust",
     {.required = ""}},
    {"--layer",
     text("NAME"),
     "layer, such as 64, 192, 768, 2048, spatial, logits or features",
     {.required = ""}},
    {"--images",
     text("PATH"),
     "images in a folder, zip or tar, videos, or a .npy array of bytes",
     {.required = ""}},
    {"--out", output("NPY", ".npy"), "array of float32 [n, dim] to write", {.required = ""}},
    {"--preprocessing", text("ID"), "torch (pytorch-fid's), tf1 or clean", {.fallback = "torch"}},
    set_option_of("source"),
    kPrecisionOption,
    {"--batch", integer(1, 65536), "images loaded at a time", {.fallback = "64"}},
    {"--threads", integer(1, 4096), "CPU threads", {.computed = "one for each core"}},
    kJsonOption,
};

}  // namespace

const Command kFeaturesCommand = {
    .name = "features",
    .summary = "writes the features that an extractor computes of images, as a NumPy array",
    .details =
        "Rows are in the order of the files' paths, or of the array. --preprocessing is for "
        "Inception; other extractors bring their own: DINOv2 sees pictures stretched to 224x224, "
        "CLIP the centres of pictures, both resized by BICUBIC (source.filter) as their authors "
        "do. Weights are not downloaded. Of DINOv2 (ViT-S, B, L, g; registers or not) and of CLIP "
        "(ViT) take model.safetensors from Hugging Face (facebook/dinov2-base, "
        "openai/clip-vit-base-patch32), timm's or open_clip's, or make it from the authors' files "
        "with tools/convert_weights. A network in FILE.onnx sees RGB in 0..255, stretched to its "
        "size by BILINEAR, unless tools/describe_onnx wrote otherwise into it, and is named for "
        "the file; its layers are output (output2, ...) and features, what goes into its last "
        "linear map. If you have none, train model.classifier and export it.",
    .example =
        "lastframe features --extractor inception.safetensors --layer 2048 --images photos \\\n"
        "    --out photos.npy\n"
        "lastframe features --extractor own.safetensors --layer features --images clips.npy \\\n"
        "    --out f.npy --json",
    .options = kFeaturesOptions,
    .run = run_features,
};

}  // namespace lf
