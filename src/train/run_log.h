// What a run leaves behind to look at: metrics.jsonl (one object a logged step), TensorBoard events
// and the line of progress. On resume both files are cut back to the resume point, so nothing
// appears twice. Only rank 0 has one.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "record.pb.h"
#include "train/log_file.h"
#include "train/tensorboard.h"

namespace lf {

struct StepReport {
  int64_t images = 0;
  double loss = 0;
  std::vector<std::pair<std::string, double>> terms;  // of the loss, and other named values
  double lr = 0, gradient_norm = 0;
  double images_per_second = 0;
  // Shares of wall time. Overhead is what neither the model nor communication took: loading,
  // optimiser, averages, logging, checkpoints, validation.
  double data_wait = 0, communication = 0, checkpoint_stall = 0, overhead = 0;
  int ranks = 1;
  uint64_t memory_bytes = 0;  // the process's peak
  int64_t skipped_steps = 0;
  bool diverged = false;
  std::string straggler;  // "rank 3 takes 2.1 times the median"; "": no rank is slow
};

// What of a report somebody should look into, for the line of progress.
std::vector<std::string> unusual_in(const StepReport& report);

class RunLog {
 public:
  RunLog(const std::string& run_folder, int64_t resume_images, int64_t run_images);
  void step(const StepReport& report);
  // Anything else worth a line: {"images": N, "event": "...", ...}; `body` is JSON fields.
  void event(int64_t images, const std::string& name,
             const std::vector<std::pair<std::string, double>>& values);
  // {"images": N, "event": "evaluation", "results": {...}}, and their values for TensorBoard.
  void results(const EvaluationRecord& record);
  void preview(int64_t images, const std::string& tag, const std::string& png, int height,
               int width);
  // Moves the line on between two reports; it keeps showing the last report's values.
  void progress(int64_t images) {
    progress_.show(static_cast<uint64_t>(images), values_, unusual_);
  }
  // The same while training waits for something else: "making the preview, 42 s".
  void progress(int64_t images, const std::string& what) {
    std::vector<std::string> unusual = unusual_;
    unusual.insert(unusual.begin(), what);
    progress_.show(static_cast<uint64_t>(images), values_, std::move(unusual));
  }
  void finish(int64_t images) { progress_.finish(static_cast<uint64_t>(images)); }

 private:
  void append(const std::string& line);

  LogFile metrics_;
  TensorboardWriter tensorboard_;
  Progress progress_;
  std::vector<std::string> values_, unusual_;  // in the line of progress
};

// Whether RUN/metrics.jsonl has that event at so many images.
bool has_event(const std::string& run_folder, int64_t images, const std::string& name);

// The loss of the first line of RUN/metrics.jsonl; NaN if there is none.
double first_loss(const std::string& run_folder);

// Drops lines past `resume_images` and an incomplete line at the end; the rest stays byte for byte.
void cut_back_metrics(const std::string& path, int64_t resume_images);

}  // namespace lf
