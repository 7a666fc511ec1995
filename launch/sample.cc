// `lastframe sample`: clips that a run's model makes from nothing, goes on with or reconstructs, as
// pictures or as an array. Clips are made in groups of a fixed size that are dealt over the ranks,
// so that a clip has the same bits for any number of them.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "comm/world.h"
#include "data/loader/loader.h"
#include "eval/arrays.h"
#include "eval/chunks.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "launch/commands.h"
#include "launch/made_clips.h"
#include "launch/options/arguments.h"
#include "launch/plugin.h"
#include "launch/sample_task.h"
#include "model/autocast.h"
#include "run/accelerator.h"
#include "run/clips.h"
#include "run/run_model.h"

namespace lf {
namespace {

// Clips that are made together, but for the last ones, which may be fewer. The same for any number
// of ranks, so that their bits are too.
constexpr int64_t kGroup = 16;

// For the header of an array, which is put before the bytes of clips in place.
constexpr int64_t kHeaderRoom = 256;

// Clips to start from, a group at a time: those of a store in the order of their ids, or of an
// array.
class GivenClips {
 public:
  virtual ~GivenClips() = default;
  virtual Clips group(int64_t first, int64_t count) = 0;  // at most kGroup
};

void check_count(const std::string& from, uint64_t there, int64_t count) {
  if (static_cast<uint64_t>(count) <= there) return;
  fail(Code::kUsage, printable(from), " holds ", there, " clips, and --count asks for ", count,
       "; ask for no more than there are");
}

class StoreClips : public GivenClips {
 public:
  StoreClips(const std::string& folder, const RunModel& run, int64_t count) {
    const ClipShape& shape = run.shape;
    const std::shared_ptr<const Store> store = Store::open(folder);
    const ClipShape found = store->clip_shape();
    if (found.height != shape.height || found.width != shape.width ||
        found.channels != shape.channels || found.frames != shape.frames) {
      fail(Code::kUsage, printable(folder), " holds clips of ", found.frames, "x", found.height,
           "x", found.width, "x", found.channels, ", the run was trained on ", shape.frames, "x",
           shape.height, "x", shape.width, "x", shape.channels, "; give a store of that shape");
    }
    check_count(folder, store->clips(), count);
    LoaderConfig in_order;
    in_order.set_threads(0);
    in_order.set_shuffle(false);
    *in_order.mutable_side() = run.config.loader().side();
    loader_ = std::make_unique<Loader>(store, in_order, LoaderShare{0, 0, 1, kGroup});
  }

  Clips group(int64_t first, int64_t count) override {
    loader_->seek(static_cast<uint64_t>(first));
    return clips_from_batch(loader_->next(), 0, at::kCPU).slice(0, count);
  }

 private:
  std::unique_ptr<Loader> loader_;
};

class ArrayClips : public GivenClips {
 public:
  ArrayClips(const std::string& path, int64_t count) : bytes_(load_npy(path)) {
    if (bytes_.dim() != 5 || bytes_.scalar_type() != at::kByte || bytes_.numel() == 0) {
      fail(Code::kUsage, printable(path), " is ", bytes_.sizes(), " of ", bytes_.dtype(),
           ", expected bytes [n, T, H, W, C], as `lastframe sample --out FILE.npy` writes them");
    }
    check_count(path, static_cast<uint64_t>(bytes_.size(0)), count);
  }

  Clips group(int64_t first, int64_t count) override {
    Clips clips;
    clips.x_BTHWC = bytes_.slice(0, first, first + count).to(at::kFloat) / 127.5 - 1;
    return clips;
  }

 private:
  at::Tensor bytes_;
};

struct Wish {
  int64_t count, given, frames, label;
  uint64_t seed;
  Precision precision;
  std::string store, from, text, task, scheme, lpips;
  std::vector<int64_t> observed;

  bool keeps_some() const { return given > 0 || !observed.empty() || !from.empty(); }
};

std::vector<int64_t> observed_frames(const std::string& list) {
  std::vector<int64_t> frames;
  for (const std::string& word : split(list, ',')) {
    int64_t frame = 0;
    if (list.empty()) break;
    if (!parse(word, &frame) || frame < 0 || (!frames.empty() && frame <= frames.back())) {
      fail(Code::kUsage, "--observe is ", printable(list),
           ", expected rising numbers of frames from 0, such as 0,4,8");
    }
    frames.push_back(frame);
  }
  return frames;
}

Wish wish_of(const Arguments& arguments) {
  Wish wish;
  wish.count = arguments.integer("--count");
  wish.given = arguments.integer("--given", 0);
  wish.frames = arguments.integer("--frames", 0);
  wish.label = arguments.integer("--class", -1);
  wish.seed = static_cast<uint64_t>(arguments.integer("--seed"));
  wish.precision = arguments.precision();
  wish.store = arguments.get("--store");
  wish.from = arguments.get("--from");
  wish.text = arguments.get("--text");
  wish.task = arguments.get("--task");
  wish.scheme = arguments.get("--scheme");
  wish.lpips = arguments.get("--lpips");
  wish.observed = observed_frames(arguments.get("--observe"));
  return wish;
}

// Texts for a group of clips: a row for each, or one for all.
class Texts {
 public:
  Texts(const std::string& path, int64_t count) {
    if (path.empty()) return;
    rows_ = load_npy(path);
    if (rows_.dim() == 1) rows_ = rows_.unsqueeze(0);
    if (rows_.dim() != 2 || !rows_.is_floating_point() ||
        (rows_.size(0) != 1 && rows_.size(0) < count)) {
      fail(Code::kUsage, printable(path), " is ", rows_.sizes(), " of ", rows_.dtype(),
           ", expected floats [n, width] with a row for each of ", count, " clips, or one for all");
    }
    rows_ = rows_.to(at::kFloat);
  }
  at::Tensor group(int64_t first, int64_t count) const {
    if (!rows_.defined()) return {};
    return rows_.index_select(0, at::arange(first, first + count) % rows_.size(0));
  }

 private:
  at::Tensor rows_;
};

// What is kept of the clips that are given.
void give(const Clips& clips, const Wish& wish, const Config& config, SampleRequest& request) {
  const DiffusionConfig& diffusion = config.model().diffusion();
  for (const NamedTensor& column : clips.side) {
    if (column.name == diffusion.text() && !request.text_BE.defined()) {
      request.text_BE = column.tensor;
    }
  }
  const at::Tensor& x = clips.x_BTHWC;
  if (diffusion.upscale() > 1 && !wish.from.empty()) {
    request.small_BTHWC = x;
    return;
  }
  const std::vector<int64_t>& kept = wish.observed;
  if (kept.empty()) {
    request.given_BTHWC = wish.given > 0 ? x.slice(1, 0, wish.given) : x;
    return;
  }
  if (kept.back() >= x.size(1)) {
    fail(Code::kUsage, "--observe asks for frame ", kept.back(), ", and the clips have ", x.size(1),
         "; expected numbers from 0 to ", x.size(1) - 1);
  }
  request.given_BTHWC = x.index_select(1, at::tensor(kept, at::kLong));
  request.given_frames = kept;
}

// What --task asks for becomes what is observed and how many frames there are to be.
void apply_task(const RunModel& run, Wish& wish) {
  if (wish.task.empty()) return;
  FrameTask task{wish.task, wish.observed, wish.frames, 0};
  if (!wish.store.empty()) task.there = run.shape.frames;
  if (!wish.from.empty()) task.there = load_npy(wish.from).size(1);
  for (int64_t frame = 0; frame < wish.given; ++frame) task.observed.push_back(frame);
  task = resolved(std::move(task), run.config, *run.model, run.shape);
  wish.observed = task.observed;
  wish.given = 0;
  wish.frames = task.frames;
}

// LPIPS as a distance between two frames, for adaptive schemes; none without its weights.
ImageDistance distance_of(const Wish& wish, const Config& config, at::Device device) {
  if (wish.lpips.empty()) return {};
  if (!config.model().diffusion().sampler().adaptive()) {
    fail(Code::kUsage,
         "--lpips is for schemes that choose what is shown, such as --scheme adaptive-hierarchy-2; "
         "leave it out, or choose one");
  }
  const std::shared_ptr<PairDistance> looks = open_pair_distance(wish.lpips, device);
  return [looks](const at::Tensor& a_HWC, const at::Tensor& b_HWC) {
    const auto image = [](const at::Tensor& x) { return bytes_of(x).unsqueeze(0); };
    return looks->distance(image(a_HWC), image(b_HWC)).item<double>();
  };
}

// Some frames at a time: copies of a long video would take more memory than the video itself.
void append_bytes(const at::Tensor& clips_BTHWC, std::string& bytes) {
  for (const at::Tensor& clip : clips_BTHWC.unbind()) {
    for (const at::Tensor& part : clip.split(64)) {
      const at::Tensor kept = part.scalar_type() == at::kByte ? part.contiguous() : bytes_of(part);
      bytes.append(reinterpret_cast<const char*>(kept.const_data_ptr<uint8_t>()), kept.nbytes());
    }
  }
}

// All that decides what the clips are.
std::string description_of(const RunModel& run, const Wish& wish, at::Device device) {
  std::string text =
      str(weights_text(run.manifest, run.config), "\n", wish.count, " clips of seed ", wish.seed,
          ", class ", wish.label, ", frames ", wish.frames, ", given ", wish.given, "\n",
          Precision_Name(wish.precision), " on a ", device.is_cpu() ? "CPU" : "GPU", ", threads ",
          at::get_num_threads(), ", kernels ", Kernels_Name(run.config.train().kernels()),
          "\nobserved");
  for (const int64_t frame : wish.observed) text += str(" ", frame);
  if (!wish.store.empty()) text += "\nstore " + Store::open(wish.store)->index().store_id();
  for (const std::string& file : {wish.from, wish.text, wish.lpips}) {
    text += "\n" + (file.empty() ? std::string("no file") : hash_of_file(file));
  }
  return text + "\n";
}

// The clips of a group, on the device that makes them.
at::Tensor make_group(RunModel& run, const Wish& wish, GivenClips* given, SampleRequest request,
                      at::Device device) {
  const Autocast autocast(wish.precision, device.type());
  Clips clips;
  if (given != nullptr) {
    clips = given->group(request.first, request.count);
    clips.x_BTHWC = clips.x_BTHWC.to(device);
    for (NamedTensor& column : clips.side) column.tensor = column.tensor.to(device);
  }
  if (given == nullptr || wish.keeps_some()) {
    if (given != nullptr) give(clips, wish, run.config, request);
    return run.model->sample(request);
  }
  if (clips.labels_B.defined()) clips.labels_B = clips.labels_B.to(device);
  clips.seed = request.seed;
  clips.first_position = request.first;
  return run.model->reconstruct(clips);
}

// Where the groups are kept until all are made; a single one is not.
ChunkCache kept_groups(const RunModel& run, const Wish& wish, at::Device device,
                       const std::string& folder) {
  if (wish.count <= kGroup) return {};
  return {folder, "clips", description_of(run, wish, device)};
}

// What others have kept there stays.
void forget(const ChunkCache& kept, const std::string& parts) {
  FileSystem& files = real_file_system();
  files.remove_tree(kept.folder());
  if (files.exists(parts) && files.list(parts).empty()) files.remove_tree(parts);
}

// Bytes of the clips of this rank's groups, [T, H, W, C] each, and T.
std::string make_share(World& world, RunModel& run, const Wish& wish, at::Device device,
                       const ChunkCache& kept, int64_t* frames) {
  const at::NoGradGuard no_grad;
  std::unique_ptr<GivenClips> given;
  if (!wish.store.empty()) given = std::make_unique<StoreClips>(wish.store, run, wish.count);
  if (!wish.from.empty()) given = std::make_unique<ArrayClips>(wish.from, wish.count);
  const Texts texts(wish.text, wish.count);
  const ImageDistance distance = distance_of(wish, run.config, device);
  const int64_t groups = (wish.count + kGroup - 1) / kGroup;
  const int64_t begin = groups * world.rank() / world.size(),
                end = groups * (world.rank() + 1) / world.size();
  const auto clips_until = [&](int64_t g) {
    return static_cast<uint64_t>(std::min(g * kGroup, wish.count) - begin * kGroup);
  };
  Progress progress("sample", world.size() > 1 ? "of rank 0's clips" : "clips", clips_until(end));
  std::string bytes;
  for (int64_t g = begin; g < end; ++g) {
    SampleRequest request;
    request.seed = wish.seed;
    request.first = g * kGroup;
    request.count = std::min(kGroup, wish.count - request.first);
    request.frames = wish.frames;
    if (wish.label >= 0) {
      request.labels_B = at::full({request.count}, wish.label, at::kLong).to(device);
    }
    request.text_BE = texts.group(request.first, request.count);
    request.distance = distance;
    const auto make = [&] { return make_group(run, wish, given.get(), request, device); };
    const auto as_bytes = [&] { return TensorsByName{{"clips", bytes_of(make())}}; };
    const at::Tensor made =
        kept.folder().empty() ? make() : kept.get(g, request.count, as_bytes).at("clips");
    *frames = made.size(1);
    if (bytes.empty()) bytes.reserve(static_cast<size_t>((end - g) * made.numel() + kHeaderRoom));
    append_bytes(made, bytes);
    if (world.is_root() && g + 1 < end) progress.show(clips_until(g + 1));
  }
  *frames = world.max(*frames);  // a rank without a group has not seen any
  return bytes;
}

// The stages in which the clips would be made, and nothing else.
void print_stages(const Wish& wish, const RunModel& run, bool as_json) {
  std::vector<int64_t> observed = wish.observed;
  for (int64_t frame = 0; frame < wish.given; ++frame) observed.push_back(frame);
  const std::vector<std::string> stages =
      stages_of({wish.task, observed, wish.frames, 0}, run.config, run.shape);
  if (!as_json) {
    std::printf("%zu stages, observed frames -> frames that are made\n", stages.size());
    for (const std::string& stage : stages) std::puts(stage.c_str());
    return;
  }
  Json json;
  json.object([&] {
    json.array("stages", [&] {
      for (const std::string& stage : stages) json.value(stage);
    });
  });
  std::puts(json.text().c_str());
}

void print_report(const Wish& wish, const RunModel& run, const std::string& checkpoint,
                  at::Device device, int64_t frames, double seconds, const std::string& out) {
  Json json;
  json.object([&] {
    json.field("count", wish.count).field("frames", frames).field("seconds", seconds);
    json.field("checkpoint", checkpoint).field("images", run.manifest.images());
    json.field("device", device.str()).field("precision", Precision_Name(wish.precision));
    json.field("out", out);
  });
  std::puts(json.text().c_str());
}

int run_sample(const Arguments& arguments) {
  Wish wish = wish_of(arguments);
  const bool dry = arguments.has("--dry-run");
  const std::string folder = arguments.get("--run");
  const std::string out = dry ? "" : arguments.get("--out");
  World& world = World::join();
  start_log("lastframe", world.rank());
  at::set_num_threads(static_cast<int>(arguments.integer("--threads")));
  // Rank 0 chooses: the run may be training, and save another meanwhile.
  const std::string checkpoint =
      world.broadcast(world.is_root() ? newest_checkpoint(folder) : std::string());
  std::vector<std::string> sets = arguments.sets();
  const Config config = run_config(read_manifest(real_file_system(), checkpoint), checkpoint, sets);
  const at::Device device =
      dry ? at::kCPU : choose_device(world, config.train(), accelerator_of_machine());
  if (!wish.scheme.empty()) {
    for (std::string& set : scheme_options_of(wish.scheme, config)) sets.push_back(std::move(set));
  }
  RunModel run = open_run_model(checkpoint, device, sets);
  apply_task(run, wish);
  if (dry) {
    if (world.is_root()) print_stages(wish, run, arguments.has("--json"));
    world.barrier();
    return 0;
  }
  const auto begin = std::chrono::steady_clock::now();
  int64_t frames = 0;
  const std::string parts = out + ".parts";
  const ChunkCache kept = kept_groups(run, wish, device, parts);
  std::vector<std::string> shares =
      world.gather(make_share(world, run, wish, device, kept, &frames));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (world.is_root()) {
    std::string all = shares.size() == 1 ? std::move(shares.front()) : join(shares, "");
    ClipShape shape = run.shape;
    shape.frames = static_cast<int>(frames);
    std::vector<int64_t> observed = wish.observed;
    for (int64_t frame = 0; frame < wish.given; ++frame) observed.push_back(frame);
    MadeClips(std::move(all), shape, std::move(observed)).write(out);
    if (!kept.folder().empty()) forget(kept, parts);
    if (arguments.has("--json")) {
      print_report(wish, run, checkpoint, device, frames, seconds, out);
    } else {
      LF_INFO("wrote ", wish.count, " clips of ", frames, " frames to ", printable(out), " in ",
              human_seconds(seconds));
    }
  }
  world.barrier();
  return 0;
}

constexpr char kMakes[] = "to make clips",
               kReconstructs[] = "with --store but none of --given, --observe and --task";

const char* sample_mode(const Arguments& arguments) {
  const bool keeps_some = arguments.has("--given") || arguments.has("--observe");
  const bool reconstructs = arguments.has("--store") && !keeps_some && !arguments.has("--task");
  return reconstructs ? kReconstructs : kMakes;
}

constexpr Option kOptions[] = {
    {"--run", text("DIR"), "the folder of a run, or of one of its checkpoints", {.required = ""}},
    {"--out",
     text("FILE|DIR"),
     ".png: every frame, a clip a row, observed frames in green; .apng: animated; .npy: bytes [n, "
     "T, H, W, C]; anything else: a folder with the array and pictures of the first 64 clips",
     {.required = "--dry-run"}},
    {"--count", integer(1, 100'000'000), "clips to make", {.fallback = "16"}},
    {"--seed", integer(0, kNoLimit), "clip i is a function of the seed and i", {.fallback = "0"}},
    kSetOption,
    {"--store",
     text("DIR"),
     "reconstruct the first clips of this store, or make them from the part that the model is "
     "given; with --given or --observe continue from these frames of them",
     {.without = "--from"}},
    {"--from", text("NPY"),
     "clips in an array of bytes [n, T, H, W, C] instead of a store: small ones for a model that "
     "enlarges clips, else frames to continue from"},
    {"--task", text("NAME"),
     "generate, predict, extend, infill, upsample or complete (see `lastframe list tasks`); "
     "chooses the frames of the given clips to keep, unless --given or --observe does"},
    {"--scheme", text("NAME"),
     "the order in which models with frames=FLEXIBLE make a video: autoregressive, long-range or "
     "hierarchy-2 (or more levels); adaptive- before it chooses frames by their content"},
    kPrecisionOption,
    kThreadsOption,
    {"--dry-run", kNoValue, "print the stages in which a clip would be made; make none"},
    kJsonOption,
    {"--given",
     integer(1, 4096),
     "keep the first N frames of each given clip",
     {.only_with = "--store|--from", .without = "--observe"}},
    {"--observe",
     text("LIST"),
     "keep these frames of each given clip, such as 0,4,8",
     {.only_with = "--store|--from"}},
    {"--class",
     integer(0, 1'000'000),
     "the class of all clips",
     {.computed = "random for each clip, if the model has classes", .only_with = kMakes}},
    {"--frames",
     integer(1, 1'000'000),
     "frames of a clip",
     {.computed = "as trained", .only_with = kMakes}},
    {"--text",
     text("NPY"),
     "text embeddings, floats [n, width]: a row for each clip, or one for all",
     {.only_with = kMakes}},
    {"--lpips",
     text("FILE"),
     "weights of LPIPS, by which adaptive schemes compare frames instead of by pixels",
     {.only_with = kMakes}},
};

}  // namespace

const Command kSampleCommand = {
    .name = "sample",
    .summary = "makes images and videos with the model of a run",
    .details =
        "The averaged weights of the newest whole checkpoint are used. Priors and diffusion "
        "models make clips unconditionally or continue given frames; autoencoders reconstruct. "
        "Under mpirun each rank makes its share, and a clip has the same bits for any number of "
        "ranks. A GPU is used where each rank has one, unless --set train.device=CPU. Run it "
        "again after any interruption: finished clips are kept in OUT.parts until all are made.",
    .example =
        "lastframe sample --run runs/prior --count 64 --out samples.png\n"
        "mpirun -n 2 --bind-to none lastframe sample --run runs/prior --count 10000 --out "
        "fake.npy\n"
        "lastframe sample --run runs/cvivit --store stores/cifar10 --count 8 --out seen.png\n"
        "lastframe sample --run runs/fdm --task infill --store stores/moving --observe 0,1,15 "
        "\\\n"
        "    --frames 40 --scheme hierarchy-2 --out between",
    .options = kOptions,
    .run = run_sample,
    .mode = sample_mode,
};

}  // namespace lf
