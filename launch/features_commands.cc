// `lastframe features`: the features that an extractor sees in images, as one NumPy array in the
// images' order, for other programs and for `lastframe evaluate --features`. One process; evaluate
// is what works on all ranks.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

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

namespace lf {
namespace {

// A folder of pictures or an array, with what --set says of the source.
std::unique_ptr<Source> open_images(const Arguments& arguments) {
  const std::string& path = arguments.required("--images");
  SourceConfig config = load_config("", arguments.all("--set")).source();
  if (path.ends_with(".npy")) {
    config.mutable_npy()->set_path(path);
  } else {
    config.mutable_folder()->set_path(path);
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
  fail(Code::kUsage, "lastframe features: --layer is '", printable(asked), "'",
       did_you_mean(asked, known), "; ", printable(arguments.get("--extractor")),
       " has the layers ", join(known, ", "));
}

// The array's rows as they are made; it appears under its name whole or not at all.
class RowFile {
 public:
  RowFile(FileSystem& files, const std::string& path, uint64_t rows, int64_t dim)
      : files_(files), path_(path), hidden_(path + ".tmp"), out_(files.create(hidden_)) {
    const std::string header = npy_header("<f4", {rows, static_cast<uint64_t>(dim)});
    out_->write(header.data(), header.size());
  }
  ~RowFile() {
    if (published_) return;
    try {
      files_.remove(hidden_);
    } catch (const Error& error) {
      LF_WARN(error.what());
    }
  }
  void append(const at::Tensor& rows) {
    const at::Tensor host = rows.to(at::kCPU, at::kFloat).contiguous();
    out_->write(host.const_data_ptr(), host.nbytes());
  }
  void publish() {
    out_->sync();
    out_->close();
    files_.rename(hidden_, path_);
    published_ = true;
    files_.sync_folder(parent_folder(path_));
  }

 private:
  FileSystem& files_;
  std::string path_, hidden_;
  std::unique_ptr<OutFile> out_;
  bool published_ = false;
};

void extract(Extractor& extractor, const ExtractorLayer& layer, const Source& source,
             uint64_t batch, const std::string& out) {
  RowFile rows(real_file_system(), out, source.size(), layer.dim);
  Progress bar("features", source.shape().frames > 1 ? "clips" : "images", source.size());
  for (uint64_t first = 0; first < source.size(); first += batch) {
    if (const StopReason reason = stop_requested(); reason != StopReason::kNone) {
      fail(Code::kInterrupted, "features was stopped by ", name_of(reason), "; run it again");
    }
    const uint64_t count = std::min(batch, source.size() - first);
    rows.append(extractor.features(load_clips(source, first, count), {layer.name}).front());
    bar.show(first + count);
  }
  rows.publish();
  bar.finish(source.size());
}

}  // namespace

int run_features(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& out = arguments.required("--out");
  const Preprocessing id = parse_preprocessing(arguments.get("--preprocessing", "torch"));
  const auto batch = static_cast<uint64_t>(arguments.number("--batch", 64, 1, 65536));
  if (arguments.has("--threads")) {
    at::set_num_threads(static_cast<int>(arguments.number("--threads", 0, 1, 4096)));
  }
  const Precision precision = arguments.precision();
  const std::unique_ptr<Source> source = open_images(arguments);
  const std::unique_ptr<Extractor> extractor =
      open_extractor(arguments.required("--extractor"), id, at::kCPU, KernelChoice{}, precision);
  const ExtractorLayer layer = find_layer(*extractor, arguments);
  const auto begin = std::chrono::steady_clock::now();
  extract(*extractor, layer, *source, batch, out);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  Json json;
  json.object([&] {
    json.field("n", source->size()).field("layer", layer.name).field("dim", layer.dim);
    json.field("extractor", extractor->name()).field("hash", extractor->hash());
    // Only Inception leaves it to choose.
    const bool chosen = extractor->name().starts_with("inception");
    json.field("preprocessing", chosen ? name_of(id) : "own")
        .field("precision", Precision_Name(precision));
    json.field("seconds", seconds.count()).field("out", out);
  });
  if (arguments.has("--json")) {
    std::printf("%s\n", json.text().c_str());
  } else {
    LF_INFO("wrote ", human_count(source->size()), " rows of ", layer.dim, " numbers, ",
            extractor->name(), " ", layer.name, ", to ", printable(out));
  }
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(Code::kStorage);
}

}  // namespace lf
