#include "launch/run_estimate.h"

#include <cstdio>

#include "base/text.h"

namespace lf {
namespace {

constexpr double kGiga = 1e9;

std::string count_text(int64_t n) { return human_count(static_cast<uint64_t>(n)); }

std::string decimal(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string memory_text(const RunEstimate& run) {
  const MemoryEstimate& memory = run.step->memory;
  return str("memory of ", run.ranks == 1 ? "the rank" : str("each of ", run.ranks, " ranks"),
             ", computing on the CPU: about ", human_bytes(memory.total), " (",
             human_bytes(memory.program), " program, ", human_bytes(memory.state),
             " weights, gradients, moments and averages, ", human_bytes(memory.per_clip),
             " for each of ", run.clips_per_rank, " clips, ", human_bytes(memory.loader),
             " batches read ahead, ", human_bytes(memory.checkpoint),
             " a checkpoint being written); measured by steps of ", run.step->clips_tried,
             " clips on this machine's CPU; a GPU needs another amount\n");
}

}  // namespace

RunEstimate estimate_of(const Arguments& arguments, const Config& config) {
  return estimate_run(World::join(), config, static_cast<int>(arguments.integer("--ranks")),
                      arguments.has("--no-memory") ? Trials::kNone : Trials::kMemory);
}

void add_estimate(Json& json, const RunEstimate& run) {
  json.field("parameters", run.parameters).field("trained_parameters", run.trained);
  json.object("parameters_by_part", [&] {
    for (const PartSize& part : run.parts) json.field(part.name, part.parameters);
  });
  if (run.step) {
    const MemoryEstimate& memory = run.step->memory;
    json.field("flops_per_image", run.step->flops_per_clip);
    json.field("memory_device", "cpu").field("memory_bytes", memory.total);
    json.field("memory_bytes_program", memory.program);
    json.field("memory_bytes_weights", memory.state);
    json.field("memory_bytes_per_clip", memory.per_clip);
    json.field("memory_bytes_loader", memory.loader);
    json.field("memory_bytes_checkpoint", memory.checkpoint);
  }
  json.field("ranks", run.ranks).field("steps", run.steps);
  if (run.bits > 0) json.field("bits_per_clip", run.bits);
  json.array("clip_shape", [&] {
    for (const int side : run.format.shape.sides()) json.value(side);
  });
}

static int64_t sum_of(const std::vector<PartSize>& parts) {
  int64_t sum = 0;
  for (const PartSize& part : parts) sum += part.parameters;
  return sum;
}

std::string estimate_text(const RunEstimate& run, const Config& config) {
  const ClipShape& shape = run.format.shape;
  std::vector<std::string> parts;
  for (const PartSize& part : run.parts) {
    parts.push_back(str(part.name, " ", count_text(part.parameters)));
  }
  std::string text = str("clips of ", shape.frames, " x ", shape.height, "x", shape.width, "x",
                         shape.channels, "; ", count_text(run.steps), " steps of ",
                         config.train().batch(), " clips\n", count_text(run.parameters),
                         " parameters", parts.size() > 1 ? ": " + join(parts, ", ") : "", "\n");
  if (run.trained < sum_of(run.parts)) text += count_text(run.trained) + " of them trained\n";
  if (run.bits > 0) text += str("codes of a clip: ", run.bits, " bits\n");
  if (!run.step) return text;
  return text +
         str("arithmetic: ", decimal(run.step->flops_per_clip / kGiga),
             " GFLOP an image in training, counted over a step's products and convolutions\n") +
         memory_text(run);
}

}  // namespace lf
