// What a run takes, before it is started: parameters by part, bits of its codes, and, by making
// some of its own steps on noise, the arithmetic of a clip and the memory of a rank. Time depends
// on the machine and is not estimated here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/world.h"
#include "run.pb.h"
#include "run/clips.h"

namespace lf {

struct PartSize {
  std::string name;  // "encoder": what the names of its tensors begin with
  int64_t parameters = 0;
};

// Of one rank that computes on the CPU, in bytes at its peak.
struct MemoryEstimate {
  uint64_t program = 0;     // the program and its libraries
  uint64_t state = 0;       // weights, gradients, moments and averages
  uint64_t per_clip = 0;    // of activations, for each clip of a micro-batch
  uint64_t loader = 0;      // batches that are read ahead
  uint64_t checkpoint = 0;  // the copy that is written while training continues
  uint64_t total = 0;       // more than their sum: freed memory does not fit everywhere again
};

// What steps on noise showed.
struct StepEstimate {
  double flops_per_clip = 0;        // forward and backward of all phases, products and convolutions
  double convolution_flops = 0;     // those of them in convolutions
  int64_t operations = 0;           // calls of operations in a step of one micro-batch
  uint64_t allocated = 0;           // by LibTorch's CPU allocator at the peak of a step of one clip
  uint64_t allocated_per_clip = 0;  // more for each further one
  uint64_t state = 0;               // weights, moments and averages: what a checkpoint holds
  MemoryEstimate memory;            // its total and per_clip only by Trials::kMemory
  int64_t clips_tried = 0;          // of the largest step made
};

struct RunEstimate {
  ClipFormat format;
  int ranks = 1;
  int64_t clips_per_rank = 1;  // of a micro-batch
  int64_t parameters = 0, trained = 0;
  std::vector<PartSize> parts;  // in the order in which the model builds them
  int64_t steps = 0;
  double bits = 0;  // of the codes of a clip; 0: the model has no codes
  std::optional<StepEstimate> step;
};

enum class Trials {
  kNone,        // nothing is computed, and `step` is left out
  kArithmetic,  // a step of one clip and one of two
  kMemory,      // and larger ones, whose memory is read off the process's peak
};

// For `ranks` ranks. Throws Code::kUsage if the batch does not divide over so many. By
// Trials::kMemory for a process that does nothing else.
RunEstimate estimate_run(World& world, const Config& config, int ranks, Trials trials);

// Noise levels that sampling steps through; 0 for a model that does not diffuse.
int64_t levels_of(const Config& config, const ClipShape& shape);

// The arithmetic of one clip that the model makes as in previews: counted, and for diffusion models
// extrapolated from few levels.
double sampling_flops(World& world, const Config& config, const ClipShape& shape);

}  // namespace lf
