#include "train/estimate.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "base/memory.h"
#include "comm/threads.h"
#include "data/loader/batch.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/sampler.h"
#include "kernels/operation_costs.h"
#include "kernels/peak_bytes.h"
#include "model/tokens/tokenizer.h"
#include "run/exported_model.h"
#include "run/synthetic_clips.h"
#include "train/step.h"

namespace lf {
namespace {

// Bytes of activations among which the allocator's holes are as in a long run, and the arithmetic
// that trials may take: not the time, so that the answer is the same on a busy machine.
constexpr int64_t kClearBytes = int64_t{384} << 20;
constexpr double kTrialFlops = 4e12, kCheapFlops = 1e12;
constexpr int kFewestSteps = 3, kMostSteps = 12;  // the heap grows to its size in the first ones

// Of the codes of a clip, if the model makes any: what comparisons at equal size go by.
double bits_of(const Model& model, int frames) {
  const auto* tokenizer = dynamic_cast<const Tokenizer*>(&model);
  if (tokenizer == nullptr) return 0;
  const std::array<int64_t, 3> grid = tokenizer->grid(frames);
  return static_cast<double>(grid[0] * grid[1] * grid[2]) *
         std::log2(static_cast<double>(tokenizer->codes()));
}

// By the first word of their tensors' names.
std::vector<PartSize> parts_of(const ParameterTable& table) {
  std::vector<PartSize> parts;
  for (const NamedTensor& weight : table.weights()) {
    const std::string name = weight.name.substr(0, weight.name.find('.'));
    auto part = std::find_if(parts.begin(), parts.end(),
                             [&](const PartSize& known) { return known.name == name; });
    if (part == parts.end()) part = parts.insert(parts.end(), {name, 0});
    part->parameters += weight.tensor.numel();
  }
  return parts;
}

void describe(const Model& model, const Config& config, RunEstimate& out) {
  out.parameters = model.parameters().count();
  out.parts = parts_of(model.parameters());
  for (const NamedTensor& weight : model.parameters().trained()) {
    out.trained += weight.tensor.numel();
  }
  out.steps = (config.train().images() + config.train().batch() - 1) / config.train().batch();
  out.bits = bits_of(model, out.format.shape.frames);
}

// Steps of the run on noise, of any number of clips, late enough that every loss takes part.
class Trial {
 public:
  Trial(World& world, Config config, const ClipShape& shape)
      : world_(world),
        config_(std::move(config)),
        shape_(shape),
        position_(std::max<int64_t>(0, config_.train().images() - config_.train().batch())),
        step_(world, config_, shape, at::kCPU) {}

  Model& model() { return step_.model(); }
  std::vector<TensorGroup> state() const { return step_.state(); }
  void make_step(int64_t clips) {
    Clips batch = synthetic_clips(config_, shape_, clips * world_.size(),
                                  step_.model().images_per_clip(), world_, at::kCPU);
    batch.first_position += position_;
    StepTally unused;
    step_.run(batch, position_, unused);
  }
  // The peak of the process after some steps of so many clips.
  uint64_t peak_of(int64_t clips, double flops) {
    const double cheap = kCheapFlops / std::max(1.0, flops * static_cast<double>(clips));
    const int steps = static_cast<int>(std::clamp<double>(cheap, kFewestSteps, kMostSteps));
    for (int i = 0; i < steps; ++i) make_step(clips);
    return static_cast<uint64_t>(over_ranks(static_cast<int64_t>(peak_memory_bytes())));
  }
  int64_t over_ranks(int64_t value) { return world_.max(value); }

 private:
  World& world_;
  const Config config_;
  const ClipShape shape_;
  const int64_t position_;
  Step step_;
};

Config trial_config(Config config) {
  config.mutable_train()->set_accumulation(1);
  config.mutable_train()->set_graph(OFF);
  return config;
}

uint64_t state_bytes(const std::vector<TensorGroup>& groups) {
  uint64_t bytes = 0;
  for (const TensorGroup& group : groups) {
    for (const NamedTensor& named : group.tensors) bytes += named.tensor.nbytes();
  }
  return bytes;
}

// Of the rank that has most to write.
uint64_t staged_bytes(const Config& config, const std::vector<TensorGroup>& groups, int ranks) {
  if (!config.checkpoint().asynchronous()) return 0;
  std::map<std::pair<std::string, std::string>, uint64_t> sizes;
  for (const TensorGroup& group : groups) {
    for (const NamedTensor& named : group.tensors) {
      sizes[{group.kind, named.name}] = named.tensor.nbytes();
    }
  }
  std::vector<uint64_t> by_rank(static_cast<size_t>(ranks), 0);
  const double least = config.checkpoint().min_shard_mib() * (1 << 20);
  for (const Shard& shard : plan_shards(groups, ranks, static_cast<uint64_t>(least))) {
    for (const std::string& name : shard.names) {
      by_rank[static_cast<size_t>(shard.writer)] += sizes.at({shard.kind, name});
    }
  }
  return *std::max_element(by_rank.begin(), by_rank.end());
}

// Ready, being read, and held by the step.
uint64_t loader_bytes(const Config& config, const ClipFormat& format, int64_t clips,
                      int64_t images_per_clip) {
  const auto batches = static_cast<uint64_t>(config.loader().prefetch()) + 2;
  const auto bytes = [&](int64_t n) {
    return n == 0 ? 0 : batch_layout(static_cast<uint64_t>(n), format.shape, format.element).bytes;
  };
  return batches * (bytes(clips) + bytes(clips * images_per_clip));
}

// The bytes that LibTorch's allocator holds more for each further clip, and the arithmetic of one.
// From the model's building on: the allocator warns of blocks that it was not shown.
struct FirstSteps {
  int64_t one = 0, live = 0;  // of one clip, and of each further
  double flops = 0, convolutions = 0;
  int64_t operations = 0;
};
FirstSteps first_steps(std::optional<Trial>& trial, World& world, const Config& config,
                       const ClipShape& shape) {
  const auto bytes = std::make_shared<PeakBytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);
  trial.emplace(world, trial_config(config), shape);
  FirstSteps out;
  for (const OperationCost& cost : observe_operations([&] { trial->make_step(1); })) {
    const auto flops = static_cast<double>(cost.flops);
    out.flops += flops;
    if (cost.name.find("convolution") != std::string::npos) out.convolutions += flops;
    out.operations += cost.calls;
  }
  out.one = bytes->peak();
  trial->make_step(2);
  out.live = world.max(bytes->peak() - out.one);
  return out;
}

// Two trials of m and 2 m clips give the bytes a clip adds, unless the rank's own number is small
// enough to be tried itself.
void try_peaks(Trial& trial, const FirstSteps& first, int64_t local, StepEstimate& out) {
  MemoryEstimate& memory = out.memory;
  const auto affordable =
      static_cast<int64_t>(std::min(1e6, kTrialFlops / std::max(1.0, 9 * first.flops)));
  const int64_t clear = kClearBytes / std::max<int64_t>(1, first.live) + 1;
  const int64_t m = std::clamp<int64_t>(std::min(clear, affordable), 1, local);
  if (2 * m >= local) {
    out.clips_tried = local;
    memory.total = trial.peak_of(local, first.flops);
    memory.per_clip = static_cast<uint64_t>(first.live);
    return;
  }
  out.clips_tried = 2 * m;
  const uint64_t less = trial.peak_of(m, first.flops), more = trial.peak_of(2 * m, first.flops);
  memory.per_clip =
      std::max((more - less) / static_cast<uint64_t>(m), static_cast<uint64_t>(first.live));
  memory.total = more + memory.per_clip * static_cast<uint64_t>(local - 2 * m);
}

void add_what_surrounds(const Trial& trial, const Config& config, int64_t images_per_clip,
                        const RunEstimate& run, MemoryEstimate& memory) {
  const int64_t local = run.clips_per_rank, batch = local * config.train().accumulation();
  const uint64_t gradients = static_cast<uint64_t>(run.trained) * sizeof(float);
  memory.state = state_bytes(trial.state()) + gradients;
  memory.loader = loader_bytes(config, run.format, batch, images_per_clip);
  memory.checkpoint = staged_bytes(config, trial.state(), run.ranks);
  memory.total += memory.loader + memory.checkpoint +
                  static_cast<uint64_t>(batch - local) * run.format.shape.bytes() * sizeof(float);
}

}  // namespace

RunEstimate estimate_run(World& world, const Config& config, int ranks, Trials trials) {
  check_batch(config, ranks);
  RunEstimate out;
  out.format = format_of_config(config);
  out.ranks = ranks;
  out.clips_per_rank = config.train().batch() / (ranks * config.train().accumulation());
  if (trials == Trials::kNone) {
    describe(*make_model(config, out.format.shape, at::kCPU, {}, open_export), config, out);
    return out;
  }
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  StepEstimate step;
  step.memory.program = peak_memory_bytes();
  std::optional<Trial> trial;
  const FirstSteps first = first_steps(trial, world, config, out.format.shape);
  describe(trial->model(), config, out);
  step.flops_per_clip = first.flops;
  step.convolution_flops = first.convolutions;
  step.operations = first.operations;
  step.allocated = static_cast<uint64_t>(first.one);
  step.allocated_per_clip = static_cast<uint64_t>(first.live);
  step.state = state_bytes(trial->state());
  if (trials == Trials::kMemory) try_peaks(*trial, first, out.clips_per_rank, step);
  add_what_surrounds(*trial, config, trial->model().images_per_clip(), out, step.memory);
  out.step = step;
  return out;
}

int64_t levels_of(const Config& config, const ClipShape& shape) {
  const bool diffusion = config.model().has_unet() || config.model().has_unet3d() ||
                         config.model().has_dit() || config.model().has_rvd();
  if (!diffusion) return 0;
  const DiffusionConfig& options = config.model().diffusion();
  return static_cast<int64_t>(
      sampling_levels(options.sampler(), NoiseSchedule(options, shape.height)).size());
}

// One clip, made by the model as it is when just built.
static double flops_of_clip(World& world, const Config& config, const ClipShape& shape) {
  const std::unique_ptr<Model> model = make_model(config, shape, at::kCPU, {}, open_export);
  const Clips clips = synthetic_clips(config, shape, world.size(), 0, world, at::kCPU);
  const at::NoGradGuard no_grad;
  double flops = 0;
  for (const OperationCost& cost : observe_operations([&] { model->preview(clips); })) {
    flops += static_cast<double>(cost.flops);
  }
  return flops;
}

double sampling_flops(World& world, const Config& config, const ClipShape& shape) {
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  const int64_t levels = levels_of(config, shape);
  if (levels == 0) return flops_of_clip(world, config, shape);
  Config few = config;
  const auto with_steps = [&](int steps) {
    few.mutable_model()->mutable_diffusion()->mutable_sampler()->set_steps(steps);
    return std::pair(levels_of(few, shape), flops_of_clip(world, few, shape));
  };
  const auto [n, less] = with_steps(2);
  const auto [m, more] = with_steps(3);
  return less + static_cast<double>(levels - n) * (more - less) / static_cast<double>(m - n);
}

}  // namespace lf
