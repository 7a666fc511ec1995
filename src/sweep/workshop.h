// The folder of a sweep, and what its runs share there: stores, weights of what is trained first,
// and answers that are kept, such as the time of a step. What is there is not made again.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/file.h"
#include "sweep/children.h"
#include "sweep/identity.h"
#include "sweep/plan.h"

namespace lf {

// What `train --dry-run` says of an arm.
struct ArmSize {
  int64_t parameters = 0;
  double bits = 0;             // of a clip's codes; 0: it has none
  double multiplications = 0;  // to learn from one image; 0: not counted
};

class Workshop {
 public:
  // Makes the folders that are missing.
  Workshop(FileSystem& files, std::string folder, const Children& children, const Sweep& sweep);

  const std::string& folder() const { return folder_; }
  FileSystem& files() const { return files_; }
  const Children& children() const { return children_; }

  // What `find` returned when `name` was first asked for, by any thread, in this call or an earlier
  // one.
  std::string kept(const std::string& name, const std::function<std::string()>& find) const;
  // "" if it was not asked for yet.
  std::string kept(const std::string& name) const;

  // Writes a config for a child, and returns its path.
  std::string config_file(const std::string& name, const std::string& text) const;

  // Stores of the clips of a config, built when first asked for.
  std::string training_store(const Config& arm) const;
  std::string held_out_store(const Config& arm) const;
  std::string picture_store(const Config& arm) const;  // of some held-out clips
  int64_t clips_of(const std::string& store) const;

  // Whether the arm's tokenizer is trained first and not there: its size is known after that.
  bool awaits_tokenizer(const ArmPlan& arm) const;
  ArmSize size_of(const ArmPlan& arm) const;            // without multiplications
  double multiplications_of(const ArmPlan& arm) const;  // that learning from one image takes
  // Seconds of a step with `jobs` such trainings at once; measured, or only as it is known.
  double step_seconds(const ArmPlan& arm, int jobs) const;
  double known_step_seconds(const ArmPlan& arm, int jobs) const;  // 0: not known
  void keep_step_seconds(const ArmPlan& arm, int jobs, double seconds) const;

  // Trains to the end, and returns the seconds that all calls for this run took.
  double train(const std::string& run, Config config, const std::string& log) const;
  // The exported weights of a first, trained when first asked for.
  std::string weights_of(const FirstPlan& first, const Identities& identities);
  // ${NAME} -> path, of those that are made.
  const std::map<std::string, std::string>& weights() const { return weights_; }

  // PSNR or another pairwise metric of first frames taken for last ones.
  double anchor(const Anchor& anchor, const ArmPlan& arm) const;

 private:
  std::string store(const Config& data, const char* part) const;
  std::string size_config(const ArmPlan& arm, bool one_clip) const;
  std::string step_key(const ArmPlan& arm, int jobs) const;

  FileSystem& files_;
  const std::string folder_;
  const Children& children_;
  const Sweep sweep_;
  std::map<std::string, std::string> weights_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::mutex> finding_;  // by name, so that an answer is found once
};

}  // namespace lf
