// What a sweep comes to: arms with their whole configs, what is trained first, what is measured,
// and how many images each arm learns from. Reads configs; needs no data and starts nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "run.pb.h"
#include "sweep/sweep_file.h"

namespace lf {

struct ArmPlan : ArmAt {
  std::string about;
  Config config;  // whole, with placeholders as they stand
  Sweep::Equal equal = Sweep::IMAGES;
  int seeds = 0;
  bool extra = false;
  int64_t batch = 0, images = 0;  // images: see set_images()
  int64_t steps() const { return images / batch; }
};

struct FirstPlan {
  std::string name;
  Config config;  // with its images and seed
};

struct MeasurePlan {
  std::string name, metric, unit = {};
  bool higher = false;       // is good
  bool by_features = false;  // needs an extractor
  std::string extractor = {}, reference = {};
  bool all_frames = false, curve = false;
};

struct SweepPlan {
  Sweep sweep;
  std::vector<FirstPlan> firsts;  // in the order of training
  std::vector<ArmPlan> arms;
  std::vector<MeasurePlan> measures;
  std::vector<std::string> left_out;  // sentences about measures without an extractor
  size_t reference = 0;               // of arms
};

// `sets` are for the config of every arm. Throws Code::kUsage.
SweepPlan plan_of(const Sweep& sweep, const std::vector<std::string>& sets);

// The arms that a list of names "V,chain-frames=4" asks for, an arm of the file standing for all
// that the axes made of it; "": all but extra ones.
std::vector<size_t> arms_chosen(const SweepPlan& plan, const std::string& list);

// Images of each arm, in whole steps: its share, by arm, of the reference's. Where that is 0, as it
// is not known, there are none.
void set_images(SweepPlan& plan, int64_t images, const std::vector<double>& shares);

// The configs of an arm's stores: source, recipe and store only. Of held-out clips, `items` is how
// many the source has (0: not known yet): about `samples` of them are taken.
Config training_data(const Sweep& sweep, const Config& arm);
Config held_out_data(const Sweep& sweep, const Config& arm, int64_t items = 0);

// Puts the values of placeholders into every text of the config.
void fill_placeholders(Config& config, const std::map<std::string, std::string>& values);

}  // namespace lf
