#include "run/clips.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "data/sources/source.h"
#include "data/store/store.h"

namespace lf {

static at::Tensor wrap(void* data, at::IntArrayRef shape, at::IntArrayRef strides,
                       at::ScalarType type) {
  return at::from_blob(data, shape, strides, at::TensorOptions().dtype(type));
}

Clips clips_from_batch(const Batch& batch, uint64_t seed, at::Device device,
                       const DeviceFrames* made_there) {
  const BatchLayout& layout = batch.layout;
  const auto clips = static_cast<int64_t>(layout.clips);
  const int64_t frames = layout.shape.frames, height = layout.shape.height,
                width = layout.shape.width, channels = layout.shape.channels;
  const int64_t frame = height * width * channels;
  // Copied to the device as stored, a quarter of the bytes of floats, and converted to floats
  // there. The copy is waited for: the loader reuses the batch's memory.
  const auto floats = [&](const at::Tensor& stored) { return stored.to(device).to(at::kFloat); };
  Clips out;
  if (made_there != nullptr) {
    out.x_BTHWC = made_there->clips(batch);
  } else if (layout.element == Element::kUint8) {
    const at::Tensor stored =
        wrap(batch.frames, {clips, frames, height, width, channels},
             {frames * frame, frame, width * channels, channels, 1}, at::kByte);
    out.x_BTHWC = floats(stored).mul_(1.0 / 127.5).sub_(1.0);
  } else {
    const at::Tensor corrupted =
        wrap(batch.frames, {clips, frames - 1, height, width, channels},
             {(frames - 1) * frame, frame, width * channels, channels, 1}, at::kHalf);
    const at::Tensor clean =
        wrap(batch.frames + layout.clean_offset, {clips, 1, height, width, channels},
             {frame, frame, width * channels, channels, 1}, at::kByte);
    out.x_BTHWC = at::cat({floats(corrupted), floats(clean).mul_(1.0 / 127.5).sub_(1.0)}, 1);
  }
  std::vector<int64_t> labels(batch.labels.begin(), batch.labels.end());
  out.labels_B = wrap(labels.data(), {clips}, {1}, at::kLong).clone().to(device);
  if (!labels.empty()) {
    const auto [least, largest] = std::minmax_element(labels.begin(), labels.end());
    out.label_range = {*least, *largest};
  }
  for (const SideBatch& side : batch.side) {
    if (side.floats.empty()) continue;
    const auto width = static_cast<int64_t>(side.floats.size()) / clips;
    out.side.push_back(
        {side.column.name, at::tensor(side.floats).reshape({clips, width}).to(device)});
  }
  out.seed = seed;
  out.first_position = static_cast<int64_t>(batch.position);
  out.batch_position = static_cast<int64_t>(batch.batch_position);
  return out;
}

at::Tensor bytes_of(const at::Tensor& x) {
  return ((x.to(at::kCPU, at::kFloat) + 1) * 127.5)
      .round()
      .clamp(0, 255)
      .to(at::kByte)
      .contiguous();
}

Clips clips_in_order(const Store& store, int64_t first, int64_t count, at::Device device,
                     const LoaderConfig* columns) {
  LoaderConfig config;
  config.set_threads(0);
  if (columns != nullptr) *config.mutable_side() = columns->side();
  for (const StoreColumn& column : store.index().columns()) {
    if (columns == nullptr && column.kind() == StoreColumn::FLOAT) config.add_side(column.name());
  }
  // Borrowed for the length of this call.
  const std::shared_ptr<const Store> borrowed(&store, [](const Store*) {});
  Loader loader(borrowed, in_order(config), {.batch = static_cast<uint64_t>(count)});
  loader.seek(static_cast<uint64_t>(first));
  return clips_from_batch(loader.next(), 0, device);
}

static ClipShape shape_of_data(const SourceConfig& config) {
  try {
    return open_source(config)->shape();
  } catch (const Error& error) {
    if (error.code() != Code::kUsage || config.kind_case() == SourceConfig::KIND_NOT_SET) throw;
    fail(error.code(), error.what(),
         "; or, without data, tell the shape: source.size, source.channels and, of videos, ",
         "source.window.frames");
  }
}

ClipFormat format_of_config(const Config& config) {
  if (!config.train().store().empty()) {
    const std::shared_ptr<const Store> store = Store::open(config.train().store());
    return {store->clip_shape(), store->recipe().element()};
  }
  const std::optional<ClipShape> told = shape_without_data(config.source());
  ClipShape shape = told ? *told : shape_of_data(config.source());
  const Recipe recipe(config.recipe(), shape);
  if (shape.frames == 1) shape.frames = recipe.frames();
  return {shape, recipe.element()};
}

}  // namespace lf
