// `lastframe sample`: clips that a run's model makes from nothing, goes on with or reconstructs, as
// pictures or as an array. Clips are made in groups of a fixed size that are dealt over the ranks,
// so that a clip has the same bits for any number of them.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "comm/world.h"
#include "data/image.h"
#include "data/loader.h"
#include "data/npy.h"
#include "eval/clips.h"
#include "eval/run_model.h"
#include "launch/commands.h"

namespace lf {
namespace {

constexpr int64_t kGroup = 16;

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Clips of a store in the order of their ids, a group at a time.
class GivenClips {
 public:
  GivenClips(const std::string& folder, const ClipShape& shape, int64_t count) {
    const std::shared_ptr<const Store> store = Store::open(folder);
    const ClipShape found = shape_of_clips(*store);
    if (found.height != shape.height || found.width != shape.width ||
        found.channels != shape.channels || found.frames != shape.frames) {
      fail(Code::kUsage, printable(folder), " holds clips of ", found.frames, "x", found.height,
           "x", found.width, "x", found.channels, ", the run was trained on ", shape.frames, "x",
           shape.height, "x", shape.width, "x", shape.channels, "; give a store of that shape");
    }
    if (static_cast<uint64_t>(count) > store->clips()) {
      fail(Code::kUsage, printable(folder), " holds ", store->clips(),
           " clips, and --count asks for ", count, "; ask for no more than there are");
    }
    LoaderConfig in_order;
    in_order.set_threads(0);
    in_order.set_shuffle(false);
    loader_ = std::make_unique<Loader>(store, in_order, LoaderShare{0, 0, 1, kGroup});
  }

  // The last group may go beyond the last clip, and then begins again with the first.
  at::Tensor group(int64_t first) {
    loader_->seek(static_cast<uint64_t>(first));
    return clips_from_batch(loader_->next(), 0, at::kCPU).x_BTHWC;
  }

 private:
  std::unique_ptr<Loader> loader_;
};

struct Wish {
  int64_t count, given, frames, label;
  uint64_t seed;
  std::string store;
};

Wish wish_of(const Arguments& arguments) {
  Wish wish;
  wish.count = arguments.number("--count", 16, 1, 100'000'000);
  wish.given = arguments.number("--given", 0, 1, 4096);
  wish.frames = arguments.number("--frames", 0, 1, 1'000'000);
  wish.label = arguments.number("--class", -1, 0, 1'000'000);
  wish.seed = static_cast<uint64_t>(arguments.number("--seed", 0, 0, INT64_MAX));
  wish.store = arguments.get("--store");
  if (wish.given > 0 && wish.store.empty()) {
    fail(Code::kUsage, "--given takes frames of a store's clips; give --store DIR too");
  }
  if (!wish.store.empty() && wish.given == 0 && (wish.frames > 0 || wish.label >= 0)) {
    fail(Code::kUsage,
         "--store without --given reconstructs its clips, which --frames and --class "
         "do not change; leave them out, or give --given N");
  }
  return wish;
}

// Bytes of the clips of this rank's groups, [T, H, W, C] each, and T.
std::string make_share(World& world, RunModel& run, const Wish& wish, int64_t* frames) {
  const at::NoGradGuard no_grad;
  std::unique_ptr<GivenClips> given;
  if (!wish.store.empty()) given = std::make_unique<GivenClips>(wish.store, run.shape, wish.count);
  const int64_t groups = (wish.count + kGroup - 1) / kGroup;
  std::string bytes;
  for (int64_t g = groups * world.rank() / world.size();
       g < groups * (world.rank() + 1) / world.size(); ++g) {
    SampleRequest request;
    request.seed = wish.seed;
    request.first = g * kGroup;
    request.count = kGroup;
    request.frames = wish.frames;
    if (wish.label >= 0) request.labels_B = at::full({kGroup}, wish.label, at::kLong);
    at::Tensor made;
    if (given && wish.given == 0) {
      made = run.model->reconstruct({given->group(g * kGroup), {}, wish.seed, g * kGroup});
    } else {
      if (given) request.given_BTHWC = given->group(g * kGroup).slice(1, 0, wish.given);
      made = run.model->sample(request);
    }
    const at::Tensor kept = bytes_of(made.slice(0, 0, std::min(kGroup, wish.count - g * kGroup)));
    *frames = kept.size(1);
    bytes.append(reinterpret_cast<const char*>(kept.const_data_ptr<uint8_t>()), kept.nbytes());
  }
  *frames = world.max(*frames);  // a rank without a group has not seen any
  return bytes;
}

class Writer {
 public:
  Writer(const std::string& bytes, const ClipShape& shape) : bytes_(bytes), shape_(shape) {
    clip_bytes_ = static_cast<size_t>(shape.frames) * shape.height * shape.width * shape.channels;
    clips_ = bytes.size() / clip_bytes_;
    zoom_ = shape.height <= 64 ? 2 : 1;
  }

  std::string npy() const {
    const auto side = [](int n) { return static_cast<uint64_t>(n); };
    return npy_header("|u1", {clips_, side(shape_.frames), side(shape_.height), side(shape_.width),
                              side(shape_.channels)}) +
           bytes_;
  }

  // Every frame of every clip, a clip a row; of images as many columns as rows.
  std::string sheet() const {
    std::vector<Image> all;
    for (size_t i = 0; i < clips_; ++i) {
      for (Image& frame : clip(i)) all.push_back(std::move(frame));
    }
    return encode_png(contact_sheet(all, shape_.frames > 1 ? shape_.frames : columns(), zoom_));
  }

  std::string last_frames() const {
    std::vector<Image> all;
    for (size_t i = 0; i < clips_; ++i) all.push_back(clip(i).back());
    return encode_png(contact_sheet(all, columns(), zoom_));
  }

  // All clips side by side, moving.
  std::string animation() const {
    std::vector<std::vector<Image>> by_frame(static_cast<size_t>(shape_.frames));
    for (size_t i = 0; i < clips_; ++i) {
      std::vector<Image> frames = clip(i);
      for (size_t t = 0; t < frames.size(); ++t) by_frame[t].push_back(std::move(frames[t]));
    }
    std::vector<Image> sheets;
    for (const auto& frame : by_frame) sheets.push_back(contact_sheet(frame, columns(), zoom_));
    return encode_animation(sheets, 150);
  }

 private:
  std::vector<Image> clip(size_t i) const {
    const auto* data = reinterpret_cast<const uint8_t*>(bytes_.data()) + i * clip_bytes_;
    return frames_of({data, clip_bytes_}, shape_.frames, shape_.height, shape_.width,
                     shape_.channels);
  }
  int columns() const {
    return static_cast<int>(std::ceil(std::sqrt(static_cast<double>(clips_))));
  }

  const std::string& bytes_;
  ClipShape shape_;
  size_t clip_bytes_ = 0, clips_ = 0;
  int zoom_ = 1;
};

void write_out(const Writer& clips, bool videos, const std::string& out) {
  FileSystem& files = real_file_system();
  if (ends_with(out, ".npy")) return publish_file(files, out, clips.npy());
  if (ends_with(out, ".apng")) return publish_file(files, out, clips.animation());
  if (ends_with(out, ".png")) return publish_file(files, out, clips.sheet());
  files.make_folders(out);
  publish_file(files, out + "/clips.npy", clips.npy());
  publish_file(files, out + "/images.png", clips.last_frames());
  if (!videos) return;
  publish_file(files, out + "/strips.png", clips.sheet());
  publish_file(files, out + "/moving.apng", clips.animation());
}

}  // namespace

int run_sample(const Arguments& arguments) {
  const Wish wish = wish_of(arguments);
  const std::string folder = arguments.required("--run"), out = arguments.required("--out");
  World& world = World::join();
  start_log("lastframe", world.rank());
  at::set_num_threads(static_cast<int>(arguments.number("--threads", 1, 1, 4096)));
  // Rank 0 chooses: the run may be training, and save another meanwhile.
  const std::string checkpoint =
      world.broadcast(world.is_root() ? newest_checkpoint(folder) : std::string());
  RunModel run = open_run_model(checkpoint, at::kCPU);
  const auto begin = std::chrono::steady_clock::now();
  int64_t frames = 0;
  const std::string share = make_share(world, run, wish, &frames);
  const std::vector<std::string> shares = world.gather(share);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (world.is_root()) {
    const std::string all = join(shares, "");
    ClipShape shape = run.shape;
    shape.frames = static_cast<int>(frames);
    write_out(Writer(all, shape), frames > 1, out);
    if (arguments.has("--json")) {
      Json json;
      json.object([&] {
        json.field("count", wish.count).field("frames", frames).field("seconds", seconds);
        json.field("checkpoint", checkpoint)
            .field("images", run.manifest.images())
            .field("out", out);
      });
      std::puts(json.text().c_str());
    } else {
      LF_INFO("wrote ", wish.count, " clips of ", frames, " frames to ", printable(out), " in ",
              human_seconds(seconds));
    }
  }
  world.barrier();
  return 0;
}

}  // namespace lf
