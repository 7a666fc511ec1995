// Noise levels: how much of a noisy z = alpha x + sigma e is image and how much noise, as a
// function of diffusion time, for every schedule of DiffusionConfig. All in double precision and
// free of torch. Not a sampler's choice of levels (sampler.h) and not what a network predicts
// (prediction.h). Called by both, by the diffusion models and by tests.
#pragma once

#include <span>
#include <vector>

#include "run.pb.h"

namespace lf {

// z = alpha x + sigma e, e ~ N(0, 1). `time` is where the schedule has it: 0 clean, 1 the noisiest.
struct NoiseLevel {
  double time = 0, alpha = 1, sigma = 0;
  bool clean() const { return sigma == 0; }
  double log_snr() const;  // log(alpha^2 / sigma^2), infinite at the ends
};

// z_s given z_t and x is normal: mean from_z z_t + from_x x. The variance of a reverse step lies
// between `least`, that of this distribution, and `most`, that of the forward step from s to t.
struct ReverseStep {
  double from_z = 0, from_x = 1, least = 0, most = 0;
};
ReverseStep reverse_step(const NoiseLevel& t, const NoiseLevel& s);

class NoiseSchedule {
 public:
  // For images of `height` pixels. Code::kUsage if the options contradict each other.
  NoiseSchedule(const DiffusionConfig& config, int height);

  // Levels of a table, whose step k = 0 .. steps() - 1 has time (k + 1) / steps(); 0: continuous.
  int steps() const { return static_cast<int>(log_alpha_bars_.size()); }
  NoiseLevel step(int k) const { return at((k + 1.0) / steps()); }
  // Between the steps of a table the logarithm of alpha runs straight.
  NoiseLevel at(double time) const;
  // The level with this log SNR, at the time that has it or else the nearer end.
  NoiseLevel at_log_snr(double log_snr) const;
  // Number `i` of `count` levels in equal steps of time, noisiest first.
  NoiseLevel grid_level(int i, int count) const;
  // The level a clip is trained at, from one uniform number in [0, 1) and one normal number.
  NoiseLevel training_level(double uniform, double normal) const;
  // What the network is told of a level: 0 to 1000, the table's step counted as if it had 1000, or
  // an angle of the SNR, which is cut off at exp(+-20).
  double signal(const NoiseLevel& level) const;
  // Standard deviation of the noise that sampling begins with at this level.
  double start_deviation(const NoiseLevel& level) const;

 private:
  double log_snr_at(double time) const;
  NoiseLevel with_log_snr(double time, double log_snr) const;

  DiffusionConfig config_;
  double log_shift_ = 0;                // of the SNR, for the images' size
  std::vector<double> log_alpha_bars_;  // of a table: log alpha^2
};

// Rows of `lastframe list schedules`.
struct ScheduleKind {
  const char* name;  // of DiffusionConfig::Schedule
  const char* help;
};
std::span<const ScheduleKind> schedule_kinds();

}  // namespace lf
