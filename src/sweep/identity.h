// What decides a run's numbers, as one hash: the options in which its config departs from the
// defaults, images, seed, data, and what was trained first. No path is part of it, so that rows of
// finished runs hold on every machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "sweep/plan.h"

namespace lf {

std::string hash_of(std::string_view text);  // 16 hexadecimal digits
// Of the tensors of a file of weights, or of all bytes of another file.
std::string weights_hash(const std::string& path);

// Whether an option decides what a run learns; others change how fast it is, what it reports and
// where it is.
bool decides(const std::string& path);

// What a source's images are: its options without paths and, of files, their names below the path,
// sizes, and the first and last 64 KiB of each. Throws Code::kUsage where there is none.
std::string source_identity(const SourceConfig& source);

// What a config trains, as text: recipe, store, model and training; `data` names the images.
std::string training_text(const Config& config, const std::string& data);

// Of all that a plan needs, once its images are set.
class Identities {
 public:
  explicit Identities(
      const SweepPlan& plan);  // reads the data's files; Code::kUsage if they are not there

  // Of the weights that arm and seed lead to; names the run's folder.
  std::string training(const ArmPlan& arm, int seed) const;
  // Of these and of what is measured of them; names the row.
  std::string row(const ArmPlan& arm, int seed) const;
  const std::string& first(const std::string& name) const { return firsts_.at(name); }

 private:
  std::string data_of(const Config& config) const;
  std::string extractor_of(const MeasurePlan& measure) const;

  const SweepPlan& plan_;
  std::map<std::string, std::string> firsts_;  // by name
  mutable std::map<std::string, std::string>
      data_;  // by the sources' bytes; whole once constructed
  std::string measures_;
};

}  // namespace lf
