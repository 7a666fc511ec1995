// `lastframe sample`: clips that a run's model makes unconditionally, continues or reconstructs, as
// pictures or as an array. They are made in groups of a fixed size that are dealt over the ranks,
// so that a clip has the same bits for any number of ranks.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstdio>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "comm/world.h"
#include "data/store/export.h"
#include "data/video/film.h"
#include "eval/open_extractor.h"
#include "launch/commands.h"
#include "launch/folder_kind.h"
#include "launch/given_clips.h"
#include "launch/made_clips.h"
#include "launch/options/arguments.h"
#include "launch/options/call.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "launch/sample_task.h"
#include "run/accelerator.h"
#include "run/arrays.h"
#include "run/clip_maker.h"
#include "run/clips.h"
#include "run/run.h"

namespace lf {
namespace {

// Clips in one call of the model; the last call may make fewer. Fixed, so that the bits of a clip
// do not depend on the ranks.
constexpr int64_t kGroup = 16;

// For the header of an array, which is put before the bytes of clips in place.
constexpr int64_t kHeaderRoom = 256;

// What the command line asks for.
struct SampleOptions {
  int64_t count, given, frames, label;
  uint64_t seed;
  Precision precision;
  std::string store, from, text, task, scheme, lpips;
  std::vector<int64_t> observed;

  bool keeps_some() const { return given > 0 || !observed.empty() || !from.empty(); }
};

bool enlarges(const SampleOptions& options, const Config& config) {
  return config.model().diffusion().upscale() > 1 && !options.from.empty();
}

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

SampleOptions options_of(const Arguments& arguments) {
  SampleOptions options;
  options.count = arguments.integer("--count");
  options.given = arguments.integer("--given", 0);
  options.frames = arguments.integer("--frames", 0);
  options.label = arguments.integer("--class", -1);
  options.seed = static_cast<uint64_t>(arguments.integer("--seed"));
  options.precision = arguments.precision();
  options.store = arguments.get("--store");
  options.from = arguments.get("--from");
  options.text = arguments.get("--text");
  options.task = arguments.get("--task");
  options.scheme = arguments.get("--scheme");
  options.lpips = arguments.get("--lpips");
  options.observed = observed_frames(arguments.get("--observe"));
  return options;
}

// Texts for a group of clips: a row for each, or one for all.
class Texts {
 public:
  Texts(const std::string& path, int64_t count) {
    if (path.empty()) return;
    rows_ = load_npy(path);
    if (rows_.dim() == 1) rows_ = rows_.unsqueeze(0);
    if (rows_.dim() > 3 || rows_.dim() == 0 || !rows_.is_floating_point() ||
        (rows_.size(0) != 1 && rows_.size(0) < count)) {
      fail(Code::kUsage, printable(path), " is ", rows_.sizes(), " of ", rows_.dtype(),
           ", expected floats [n, width] or [n, tokens, width] with a row for each of ", count,
           " clips, or one for all");
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

// Refuses frames that given clips of `there` frames have not, and to keep all that a clip is to
// have.
void check_kept(const SampleOptions& options, const Run& run, int64_t there) {
  const DiffusionConfig& diffusion = run.config.model().diffusion();
  const std::vector<int64_t>& observed = options.observed;
  if (options.given > there) {
    fail(Code::kUsage, "--given asks for ", options.given, " frames, and the clips have ", there,
         "; give fewer");
  }
  if (!observed.empty() && observed.back() >= there) {
    fail(Code::kUsage, "--observe asks for frame ", observed.back(), ", and the clips have ", there,
         "; expected numbers from 0 to ", there - 1);
  }
  const int64_t kept = !observed.empty()   ? static_cast<int64_t>(observed.size())
                       : options.given > 0 ? options.given
                                           : there;
  // That a model between frames is given are further apart in what it makes.
  const bool between = diffusion.frames() == DiffusionConfig::BETWEEN && observed.empty();
  const int64_t wanted = options.frames > 0 ? options.frames : run.shape.frames;
  if (between || kept < wanted) return;
  fail(Code::kUsage, kept, " frames of each given clip would be kept, and what is made has ",
       wanted,
       ", so that nothing would be made; keep fewer with --given, or ask for more with "
       "--frames");
}

// What is kept of the clips that are given.
void give(const Clips& clips, const SampleOptions& options, const Config& config,
          SampleRequest& request) {
  const DiffusionConfig& diffusion = config.model().diffusion();
  for (const NamedTensor& column : clips.side) {
    if (column.name == diffusion.text() && !request.text.defined()) {
      request.text = column.tensor;
    }
  }
  const at::Tensor& x = clips.x_BTHWC;
  if (enlarges(options, config)) {
    request.small_BTHWC = x;
    return;
  }
  const std::vector<int64_t>& kept = options.observed;
  if (kept.empty()) {
    request.given_BTHWC = options.given > 0 ? x.slice(1, 0, options.given) : x;
    return;
  }
  request.given_BTHWC = x.index_select(1, at::tensor(kept, at::kLong));
  request.given_frames = kept;
}

// What --task asks for becomes what is observed and how many frames there are to be.
void apply_task(const Run& run, SampleOptions& options) {
  if (options.task.empty()) return;
  FrameTask task{options.task, options.observed, options.frames, 0};
  if (!options.store.empty()) task.there = run.shape.frames;
  if (!options.from.empty()) task.there = load_npy(options.from).size(1);
  for (int64_t frame = 0; frame < options.given; ++frame) task.observed.push_back(frame);
  task = resolved(std::move(task), run.config, *run.model, run.shape);
  options.observed = task.observed;
  options.given = 0;
  options.frames = task.frames;
}

// LPIPS as a distance between two frames, for adaptive schemes; none without its weights.
ImageDistance distance_of(const SampleOptions& options, at::Device device) {
  if (options.lpips.empty()) return {};
  const std::shared_ptr<PairDistance> looks = open_pair_distance(options.lpips, device);
  return [looks](const at::Tensor& a_HWC, const at::Tensor& b_HWC) {
    const auto image = [](const at::Tensor& x) { return bytes_of(x).unsqueeze(0); };
    return looks->distance(image(a_HWC), image(b_HWC)).item<double>();
  };
}

std::vector<int64_t> kept_frames(const SampleOptions& options) {
  std::vector<int64_t> frames = options.observed;
  for (int64_t frame = 0; frame < options.given; ++frame) frames.push_back(frame);
  return frames;
}

// All that decides what the clips are.
std::string description_of(const Run& run, const SampleOptions& options) {
  std::string text =
      str(run.making_key(options.precision), options.count, " clips of seed ", options.seed,
          ", class ", options.label, ", frames ", options.frames, ", given ", options.given,
          ", threads ", at::get_num_threads(), "\nobserved");
  for (const int64_t frame : options.observed) text += str(" ", frame);
  if (!options.store.empty()) text += "\nstore " + Store::open(options.store)->index().store_id();
  for (const std::string& file : {options.from, options.text, options.lpips}) {
    text += str("\n", file.empty() ? "no file" : hash_of_file(file));
  }
  return text + "\n";
}

// Makes the clips of a call of the model, on its device.
class Sampling {
 public:
  Sampling(const Run& run, const SampleOptions& options)
      : run_(run),
        options_(options),
        texts_(options.text, options.count),
        distance_(distance_of(options, run.device)) {
    if (!options.store.empty()) given_ = clips_of_store(options.store, run, options.count);
    if (!options.from.empty()) given_ = clips_of_array(options.from, run, options.count);
    if (given_ && options.keeps_some() && !enlarges(options, run.config)) {
      check_kept(options, run, given_->frames());
    }
  }

  at::Tensor make(int64_t first, int64_t count) const {
    SampleRequest request;
    request.seed = options_.seed;
    request.first = first;
    request.count = count;
    request.frames = options_.frames;
    if (options_.label >= 0) {
      request.labels_B = at::full({count}, options_.label, at::kLong).to(run_.device);
    }
    request.text = texts_.group(first, count);
    request.distance = distance_;
    if (!given_) return run_.model->sample(request);
    Clips clips = given_->group(first, count);
    if (options_.keeps_some()) {
      give(clips, options_, run_.config, request);
      return run_.model->sample(request);
    }
    clips.seed = options_.seed;
    clips.first_position = first;
    return run_.model->reconstruct(clips);
  }

 private:
  const Run& run_;
  const SampleOptions& options_;
  const Texts texts_;
  const ImageDistance distance_;
  std::unique_ptr<GivenClips> given_;  // null: none
};

// The clips of the store that others were made of; none if those are of another length.
RealClip real_clips(const SampleOptions& options, const ClipShape& shape) {
  if (options.store.empty()) return nullptr;
  const std::shared_ptr<const Store> store = Store::open(options.store);
  if (store->clip_shape() != shape) return nullptr;
  return [store](size_t i) { return clip_frames(*store, i, 0); };
}

// Groups are kept until all are made; a single one is not.
ChunkCache kept_groups(const Run& run, const SampleOptions& options, const std::string& out) {
  if (options.count <= kGroup) return {};
  return {out + ".parts", "clips", description_of(run, options)};
}

// Collective. [count, T, H, W, C] on rank 0, whose T becomes `frames`.
std::string make_clips(World& world, const Run& run, const SampleOptions& options,
                       const ChunkCache& kept, int64_t* frames) {
  const Sampling sampling(run, options);
  ClipMaker maker([&](int64_t first, int64_t count) { return sampling.make(first, count); },
                  {.what = "samples",
                   .groups = {options.count, kGroup},
                   .batch = kGroup,
                   .precision = options.precision,
                   .device = run.device,
                   .kept = kept});
  maker.announce_cost(world);
  const Chunks& groups = maker.groups();
  const int64_t own =
      groups.first(world.rank() + 1, world.size()) - groups.first(world.rank(), world.size());
  std::string bytes;
  maker.for_own_groups(world, "sample", [&](const at::Tensor& clips) {
    *frames = clips.size(1);  // rank 0 always has a group
    if (bytes.empty()) bytes.reserve(static_cast<size_t>(own) * clips.nbytes() + kHeaderRoom);
    bytes.append(static_cast<const char*>(clips.const_data_ptr()), clips.nbytes());
  });
  std::vector<std::string> shares = world.gather(bytes);
  if (!world.is_root()) return {};
  return shares.size() == 1 ? std::move(shares.front()) : join(shares, "");
}

// The stages in which the clips would be made, and nothing else.
void print_stages(const SampleOptions& options, const Run& run, bool as_json) {
  const std::vector<std::string> stages =
      stages_of({options.task, kept_frames(options), options.frames, 0}, run.config, run.shape);
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

void print_report(const SampleOptions& options, const Run& run, int64_t frames, double seconds,
                  const std::string& out) {
  Json json;
  json.object([&] {
    json.field("count", options.count).field("frames", frames).field("seconds", seconds);
    json.field("checkpoint", run.checkpoint.folder()).field("images", run.images());
    json.field("device", run.device.str()).field("precision", Precision_Name(options.precision));
    json.field("out", out);
  });
  std::puts(json.text().c_str());
}

constexpr char kMakes[] = "to make clips",
               kReconstructs[] = "with --store but none of --given, --observe and --task";

int run_sample(const Arguments& arguments) {
  SampleOptions options = options_of(arguments);
  const bool dry = arguments.has("--dry-run");
  const std::string folder = arguments.get("--run");
  std::string out = dry ? "" : arguments.get("--out");
  while (out.size() > 1 && out.ends_with('/')) out.pop_back();
  if (const std::string other = kind_of_our_folder(out); !other.empty()) {
    arguments.refuse("--out is ", printable(out), ", which is a ", other,
                     "; expected a folder of its own, or a file");
  }
  check_film(out);
  catch_stop_signals();
  World& world = World::join();
  start_log("lastframe", world.rank());
  at::set_num_threads(static_cast<int>(arguments.integer("--threads")));
  Run run = open_run(world, folder, arguments.sets());
  const at::Device device =
      dry ? at::kCPU : choose_device(world, run.config.train(), accelerator_of_machine());
  check_needs(arguments, needs_of_sample(run.config, enlarges(options, run.config),
                                         arguments.mode() == kReconstructs));
  run.set(scheme_options_of(options.scheme));
  run.load_model(device);
  apply_task(run, options);
  if (dry) {
    if (world.is_root()) print_stages(options, run, arguments.has("--json"));
    world.barrier();
    return 0;
  }
  const Clock::time_point begin = Clock::now();
  int64_t frames = 0;
  const ChunkCache kept = kept_groups(run, options, out);
  std::string clips = make_clips(world, run, options, kept, &frames);
  const double seconds = seconds_since(begin);
  if (world.is_root()) {
    ClipShape shape = run.shape;
    shape.frames = static_cast<int>(frames);
    MadeClips(std::move(clips), shape, kept_frames(options), real_clips(options, shape)).write(out);
    kept.remove();
    if (arguments.has("--json")) print_report(options, run, frames, seconds, out);
    log_written(out, str(counted(static_cast<uint64_t>(options.count), "clip"), " of ",
                         counted(static_cast<uint64_t>(frames), "frame"), ", made in ",
                         human_seconds(seconds)));
  }
  world.barrier();
  return 0;
}

const char* sample_mode(const Arguments& arguments) {
  const bool keeps_some = arguments.has("--given") || arguments.has("--observe");
  const bool reconstructs = arguments.has("--store") && !keeps_some && !arguments.has("--task");
  return reconstructs ? kReconstructs : kMakes;
}

constexpr Hint kSampleHints[] = {{"--samples", "how many clips to make is --count N"}};

constexpr Option kSampleOptions[] = {
    {"--run", text("DIR"), "the folder of a run, or of one of its checkpoints", {.required = ""}},
    {"--out",
     output("FILE|DIR", ".png|.apng|.mp4|.gif|.webp|.npy|/"),
     ".png: every frame, a clip a row, observed frames in green and a store's clips above what was "
     "made of them; .apng, .mp4, .gif, .webp: moving; .npy: bytes [n, T, H, W, C]; anything else: "
     "a "
     "folder with the array and pictures of the first 64 clips",
     {.required = "--dry-run"}},
    {"--count", integer(1, 100'000'000), "clips to make", {.fallback = "16"}},
    {"--seed",
     integer(0, kNoLimit),
     "clip i is a function of the seed and i",
     {.fallback = "0", .needs = kRandom}},
    set_option_of("model|train|comm|loader"),
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
    {"--scheme",
     text("NAME"),
     "the order in which models with frames=FLEXIBLE make a video: autoregressive, long-range or "
     "hierarchy-2 (or more levels); adaptive- before it chooses frames by their content",
     {.needs = kAnyOrder}},
    kPrecisionOption,
    kThreadsOption,
    {"--dry-run", kNoValue, "print the stages in which a clip would be made; make none"},
    kJsonOption,
    {"--given",
     integer(1, 4096),
     "keep the first N frames of each given clip",
     {.only_with = "--store|--from", .without = "--observe", .needs = kContinued}},
    {"--observe",
     text("LIST"),
     "keep these frames of each given clip, such as 0,4,8",
     {.only_with = "--store|--from", .needs = kContinued}},
    {"--class",
     integer(0, 1'000'000),
     "the class of all clips",
     {.computed = "random for each clip", .only_with = kMakes, .needs = kClasses}},
    {"--frames",
     integer(1, 1'000'000),
     "frames of a clip",
     {.computed = "as trained", .only_with = kMakes}},
    {"--text",
     text("NPY"),
     "text embeddings, floats [n, width] or [n, tokens, width]: a row for each clip, or one for "
     "all",
     {.only_with = kMakes, .needs = kTexts}},
    {"--lpips",
     text("FILE"),
     "weights of LPIPS, by which adaptive schemes compare frames instead of by pixels",
     {.only_with = kMakes, .needs = kAdaptive}},
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
    .options = kSampleOptions,
    .run = run_sample,
    .mode = sample_mode,
    .hints = kSampleHints,
};

}  // namespace lf
