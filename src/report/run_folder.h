// What a run's folder tells, read with bounded memory from files that may be missing, half written
// or hostile: whatever cannot be read is a sentence in `missing`. Changes nothing there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json_value.h"
#include "checkpoint/retention.h"
#include "record.pb.h"
#include "run.pb.h"

namespace lf {

struct RunPoint {
  double images = 0, seconds = 0, value = 0;
};

// One named value over a run. Keeps a bounded number of points: of long runs each is the mean of as
// many consecutive ones.
class Curve {
 public:
  explicit Curve(std::string name) : name_(std::move(name)) {}
  void add(const RunPoint& point);
  const std::string& name() const { return name_; }
  const std::vector<RunPoint>& points() const { return points_; }

 private:
  std::string name_;
  std::vector<RunPoint> points_;
  RunPoint sum_;  // of those that make the next point
  int waiting_ = 0, each_ = 1;
};

// One metric of one evaluation, with where it comes from; "" and 0 where that is not told.
struct Measurement {
  int64_t images = 0;
  std::string metric;
  double value = 0;
  int64_t n = 0, reference_n = 0;
  std::string seed, extractor, layer, extractor_hash, preprocessing, reference, reference_hash;
  std::string subject, clips, weights, precision;
  std::vector<double> per_frame;
};

struct PreviewFile {
  int64_t images = 0;
  std::string path, animation;  // "": there is none
};

struct RunFolder {
  std::string folder, name;
  std::string state;  // "running", "finished", ..., "unknown"
  JsonValue status;   // status.json
  std::string config_text;
  std::optional<Config> config;
  std::vector<Curve> curves;              // of metrics.jsonl, in the order of their first values
  std::vector<Measurement> measurements;  // by metric and images
  std::vector<LifeRecord> starts;
  std::vector<Candidate> checkpoints;  // newest first
  std::vector<PreviewFile> previews;   // by images
  std::vector<std::string> warnings;   // lines of the logs
  std::vector<std::string> missing;
  uint64_t not_finite = 0;  // logged losses

  bool running() const { return state == "running"; }
  const Curve* curve(const std::string& name) const;  // null: there is none
  // Of training up to `images`, the time between two starts left out.
  double seconds_at(double images) const;
  // The newest measurement of each metric, by the metric's name.
  std::vector<const Measurement*> newest() const;
};

// True if the folder holds a file or folder that every run has.
bool is_run_folder(FileSystem& files, const std::string& folder);

RunFolder read_run(FileSystem& files, const std::string& folder);

}  // namespace lf
