// Results with where they come from, as people and scripts read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/metrics.h"
#include "record.pb.h"

namespace lf {

struct Result {
  std::string metric;
  MetricValue value;
  // What it was found with; "" where a metric has no such thing.
  std::string extractor, extractor_hash, layer, preprocessing;
  std::string reference;  // what it was compared with
  std::string reference_hash;
  int64_t reference_n = 0;   // samples of it; 0: unknown
  int64_t reference_of = 0;  // samples there are, of which those were taken; 0: all were
  std::string subject;       // "samples", "reconstructions"; "" for files
  std::string clips;         // that were reconstructed: "training", "validation"; else ""
  uint64_t seed = 0;         // of the samples
  bool seeded = false;       // false: nothing was drawn
  int64_t images = -1;       // the checkpoint's position; -1: there is none
  std::string weights;       // "ema" or "model"
  std::string precision;     // of the model, "FP32" or "BF16"; "" for files
};

// {"fid768": {"value": ..., "n": ..., "extractor": ..., ...}, ...} on one line; null where there is
// no such thing.
std::string results_json(const std::vector<Result>& results);

// A line each, to four digits, and one for the last frame of videos.
std::string results_text(const std::vector<Result>& results);

// Of the results of one evaluation of the checkpoint at `images`, what is kept of them.
EvaluationRecord record_of(const std::vector<Result>& results, int64_t images);

// RUN/evaluations/NAME, for good. Returns the path.
std::string publish_record(const EvaluationRecord& record, const std::string& run_folder);

}  // namespace lf
