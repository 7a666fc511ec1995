#include "launch/sample_task.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
#include "diffusion/frame_plan.h"

namespace lf {
namespace {

constexpr const char* kFrames = "model.diffusion.frames=";

constexpr std::array kUnconditional = {
    "model.code_prior", "model.diffusion.frames=JOINT", "model.diffusion.frames=AUTOREGRESSIVE",
    "model.diffusion.frames=FLEXIBLE", "model.diffusion.frames=RANDOM"};
constexpr std::array kContinue = {"model.code_prior",
                                  "model.rvd",
                                  "model.diffusion.frames=JOINT",
                                  "model.diffusion.frames=AUTOREGRESSIVE",
                                  "model.diffusion.frames=LAST",
                                  "model.diffusion.frames=PREDICT",
                                  "model.diffusion.frames=FLEXIBLE",
                                  "model.diffusion.frames=RANDOM"};
constexpr std::array kBetween = {"model.diffusion.frames=JOINT", "model.diffusion.frames=FLEXIBLE",
                                 "model.diffusion.frames=RANDOM"};
constexpr std::array kEvenly = {"model.diffusion.frames=JOINT", "model.diffusion.frames=BETWEEN",
                                "model.diffusion.frames=FLEXIBLE", "model.diffusion.frames=RANDOM"};

constexpr auto kTasks = std::to_array<TaskKind>({
    {"generate", kUnconditional, "all frames, unconditionally"},
    {"predict", kContinue, "from the first frames of each clip, those after them"},
    {"extend", kContinue,
     "from all frames of each clip, more: --frames says how many there will be"},
    {"infill", kBetween, "from the first and the last frame (or --observe), those between"},
    {"upsample", kEvenly, "from every second frame (or --observe), those between"},
    {"complete", kBetween, "from any frames, which --observe names, all others"},
});

std::vector<int64_t> every(int64_t stride, int64_t frames) {
  std::vector<int64_t> numbers;
  for (int64_t frame = 0; frame < frames; frame += stride) numbers.push_back(frame);
  return numbers;
}

const TaskKind& kind_named(const std::string& name) {
  std::vector<std::string> names;
  for (const TaskKind& kind : kTasks) {
    if (name == kind.name) return kind;
    names.push_back(kind.name);
  }
  fail(Code::kUsage, "--task is ", printable(name), ", expected one of ", join(names, ", "),
       did_you_mean(name, names));
}

void require_able(const TaskKind& kind, const Config& config) {
  const std::string model = model_kind(config);
  if (std::find(kind.models.begin(), kind.models.end(), model) != kind.models.end()) return;
  fail(Code::kUsage, "--task ", kind.name, " is more than this run's ", model,
       " can do; train one of ",
       join(std::vector<std::string>(kind.models.begin(), kind.models.end()), ", "));
}

// What the task takes of clips of `there` frames where nobody says it.
std::vector<int64_t> usual_frames(const std::string& task, const Config& config, const Model& model,
                                  int64_t there) {
  if (task == "predict") {
    const std::vector<int64_t> given = model.frames_to_give();
    const bool first = !given.empty() && given.back() == static_cast<int64_t>(given.size()) - 1;
    return first ? given : every(1, std::max<int64_t>(1, there / 2));
  }
  if (task == "extend") return every(1, there);
  if (task == "infill") return there > 2 ? std::vector<int64_t>{0, there - 1} : every(1, there);
  const DiffusionConfig& diffusion = config.model().diffusion();
  return every(diffusion.frames() == DiffusionConfig::BETWEEN ? diffusion.stride() : 2, there);
}

bool in_a_row(const std::vector<int64_t>& frames) {
  return !frames.empty() && frames.back() == static_cast<int64_t>(frames.size()) - 1;
}

// What is wrong with the frames of a task; empty if nothing is.
std::string trouble_with(const FrameTask& task) {
  const std::vector<int64_t>& seen = task.observed;
  if (task.name == "predict" || task.name == "extend") {
    if (!in_a_row(seen)) return "continues from the first frames; expected 0, 1, ... in a row";
    if (task.frames <= seen.back() + 1) {
      return str("continues from ", seen.size(), " frames to ", task.frames,
                 ", the observed ones included; ask for more with --frames");
    }
  }
  if (task.name == "infill" || task.name == "upsample") {
    if (seen.size() < 2 || in_a_row(seen)) {
      return "makes what lies between observed frames, and nothing does; expected a gap, such as "
             "--observe 0,3";
    }
  }
  if (task.name == "upsample") {
    for (size_t i = 1; i < seen.size(); ++i) {
      if (seen[i] - seen[i - 1] != seen[1] - seen[0]) {
        return "takes frames equally far apart, such as --observe 0,2,4; for others there is "
               "--task infill";
      }
    }
  }
  return "";
}

}  // namespace

std::span<const TaskKind> task_kinds() { return kTasks; }

std::string model_kind(const Config& config) {
  const ModelConfig& model = config.model();
  if (model.has_unet() || model.has_unet3d() || model.has_dit()) {
    return kFrames + DiffusionConfig::Frames_Name(model.diffusion().frames());
  }
  const auto* kind = ModelConfig::GetReflection()->GetOneofFieldDescriptor(
      model, ModelConfig::descriptor()->FindOneofByName("kind"));
  return kind == nullptr ? "model without a kind" : "model." + kind->name();
}

std::vector<Need> needs_of_sample(const Config& config, bool enlarges, bool reconstructs) {
  const ModelConfig& model = config.model();
  const DiffusionConfig& diffusion = model.diffusion();
  const std::string kind = model_kind(config), this_runs = "this run's is " + kind;
  const bool flexible = kind == std::string(kFrames) + "FLEXIBLE";
  const int classes = model.has_code_prior()      ? model.code_prior().classes()
                      : kind.starts_with(kFrames) ? diffusion.classes()
                                                  : 0;
  const bool codec = model.has_autoencoder() || model.has_vqvae() || model.has_cvivit();
  return {
      {kClasses, classes > 0, this_runs + " without"},
      {kTexts, kind.starts_with(kFrames) && !diffusion.text().empty(), this_runs + " without"},
      {kAnyOrder, flexible, this_runs},
      {kAdaptive, flexible && diffusion.sampler().adaptive(),
       flexible ? "the one here takes fixed frames" : this_runs + ", which has none"},
      {kRandom, !(reconstructs && codec),
       this_runs + ", whose reconstructions are always the same"},
      {kContinued, !enlarges, "a model that enlarges clips takes all frames of --from"},
  };
}

FrameTask resolved(FrameTask task, const Config& config, const Model& model,
                   const ClipShape& trained) {
  const TaskKind& kind = kind_named(task.name);
  require_able(kind, config);
  if (task.name == "generate") {
    if (task.there == 0) return task;
    fail(Code::kUsage, "--task generate makes clips unconditionally; leave out --store and --from");
  }
  if (task.there == 0) {
    fail(Code::kUsage, "--task ", task.name,
         " starts from frames of clips; give --store DIR or --from NPY");
  }
  if (task.observed.empty()) {
    if (task.name == "complete") {
      fail(Code::kUsage, "--task complete starts from the frames that --observe names; give some");
    }
    task.observed = usual_frames(task.name, config, model, task.there);
  }
  if (task.frames == 0) {
    const bool between = task.name == "infill" || task.name == "upsample";
    task.frames = task.observed.back() + 1;
    if (!between) task.frames = std::max<int64_t>(task.frames, trained.frames);
  }
  const std::string trouble = trouble_with(task);
  if (!trouble.empty()) fail(Code::kUsage, "--task ", task.name, " ", trouble);
  return task;
}

std::vector<std::string> scheme_options_of(const std::string& scheme) {
  if (scheme.empty()) return {};
  const std::string sampler = "model.diffusion.sampler.";
  std::string name = scheme;
  const bool adaptive = name.starts_with("adaptive-");
  if (adaptive) name = name.substr(9);
  std::vector<std::string> sets = {sampler + "adaptive=" + (adaptive ? "true" : "false")};
  int64_t levels = 0;
  if (name == "autoregressive") {
    sets.push_back(sampler + "scheme=NEXT");
  } else if (name == "long-range") {
    sets.push_back(sampler + "scheme=LONG_RANGE");
  } else if (name.starts_with("hierarchy-") && parse(name.substr(10), &levels)) {
    sets.push_back(sampler + "scheme=HIERARCHY");
    sets.push_back(str(sampler, "levels=", levels));
  } else {
    fail(Code::kUsage, "--scheme is ", printable(scheme),
         ", expected autoregressive, long-range or hierarchy-N with N levels, or one of these "
         "after adaptive-");
  }
  return sets;
}

std::vector<std::string> stages_of(const FrameTask& task, const Config& config,
                                   const ClipShape& trained) {
  std::vector<std::string> lines;
  const int64_t wanted = task.frames > 0 ? task.frames : trained.frames;
  if (config.model().has_rvd()) {
    if (!in_a_row(task.observed)) {
      fail(Code::kUsage, "this model makes the next frames; say with --given which are there");
    }
    for (auto frame = static_cast<int64_t>(task.observed.size()); frame < wanted; ++frame) {
      lines.push_back(describe({every(1, frame), {frame}}));
    }
    return lines;
  }
  const DiffusionConfig& diffusion = config.model().diffusion();
  if (!model_kind(config).starts_with(kFrames) || !diffusion.tokenizer().empty()) {
    fail(Code::kUsage, "--dry-run prints the stages of diffusion in frames, and this run's ",
         model_kind(config), " has none; leave it out");
  }
  for (const FrameWindow& window :
       sampling_windows(diffusion, trained.frames, task.observed, wanted)) {
    lines.push_back(
        describe({window.frames(FrameRole::kObserved), window.frames(FrameRole::kLatent)}));
  }
  return lines;
}

}  // namespace lf
