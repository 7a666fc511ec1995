// What a training run takes on a cluster that is only described: memory, time and its parts,
// checkpoints, evaluation, GPU-hours. Formulas over what was counted of the run (train/estimate.h)
// and what data sheets say; measures nothing itself.
#pragma once

#include <optional>

#include "launch/quantities.h"
#include "run.pb.h"
#include "train/estimate.h"

namespace lf {

// Of one GPU, or of one rank that computes on CPU cores; FLOP and bytes, of a second.
struct Processor {
  bool cpu = false;
  double memory = 0;                      // bytes that it has; 0: unknown
  double products = 0, convolutions = 0;  // peaks in the precision of training
  double features = 0;                    // of convolutions in FP32
  double bandwidth = 0;                   // of its memory
  double link = 0, host = 0;              // to others of its node, to host memory
};

struct Cluster {
  Processor processor;
  int nodes = 1, gpus_per_node = 1;
  double net = 0, fs = 0;  // of a node; of the file system, over all
  double utilisation = 0;  // of the peaks, in a step
};

// What `bench step --json` measured, on `ranks` such processors.
struct StepBench {
  double seconds = 0, communication_share = 0;
  int ranks = 1, batch = 1;
};

// The run is estimated for all ranks of the cluster, with its step; `sample_flops` of one clip
// made.
Quantities plan_on_cluster(const Config& config, const RunEstimate& run, double sample_flops,
                           const Cluster& cluster, const std::optional<StepBench>& bench);

}  // namespace lf
