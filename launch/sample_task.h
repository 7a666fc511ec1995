// What `lastframe sample --task` and `--scheme` mean for a model: which frames of the given clips
// it is shown and how many it is to make, which models can do so, and in which stages they do it
// (--dry-run). Plans only: making the clips is sample's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/options/call.h"
#include "model/model.h"

namespace lf {

// Rows of `lastframe list tasks`.
struct TaskKind {
  const char* name;
  std::span<const char* const> models;  // that can do it, as model_kind() names them
  const char* help;
};
std::span<const TaskKind> task_kinds();

// "model.rvd"; for diffusion networks also which frames they make from which:
// "model.diffusion.frames=FLEXIBLE".
std::string model_kind(const Config& config);

// What options of the command line need of the run.
inline constexpr char kClasses[] = "a model with classes", kTexts[] = "a model of texts",
                      kAnyOrder[] = "a model with model.diffusion.frames=FLEXIBLE",
                      kAdaptive[] = "an adaptive --scheme", kRandom[] = "a model that draws",
                      kContinued[] = "clips to continue";

// Whether this run has each. `enlarges`: clips are given to be enlarged. `reconstructs`: clips are
// encoded and decoded.
std::vector<Need> needs_of_sample(const Config& config, bool enlarges, bool reconstructs);

// What is asked for on the command line, and in the end what is done.
struct FrameTask {
  std::string name;               // of task_kinds()
  std::vector<int64_t> observed;  // frames of the given clips; empty: the task's own
  int64_t frames = 0;             // of the clips that are made; 0: as trained
  int64_t there = 0;              // frames of the given clips; 0: none are given
};

// The task with its frames filled in. Code::kUsage if this model cannot do it, naming those that
// can, or if its frames make no such task.
FrameTask resolved(FrameTask task, const Config& config, const Model& model,
                   const ClipShape& trained);

// "adaptive-hierarchy-2" as assignments of model.diffusion.sampler's options.
std::vector<std::string> scheme_options_of(const std::string& scheme);

// The stages in which such a model makes these frames, "0-3 -> 4-7" each. Code::kUsage from a model
// that has none.
std::vector<std::string> stages_of(const FrameTask& task, const Config& config,
                                   const ClipShape& trained);

}  // namespace lf
