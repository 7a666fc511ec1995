// Noise schedules: alpha and sigma of the noisy image z = alpha x + sigma e as functions of
// diffusion time, for every schedule of DiffusionConfig. In double precision and without torch. A
// sampler's choice of levels is sampler.h's, what a network predicts is prediction.h's.
#pragma once

#include <span>
#include <vector>

#include "run.pb.h"

namespace lf {

// z = alpha x + sigma e, e ~ N(0, 1), at diffusion time `time`: 0 is clean, 1 the noisiest.
struct NoiseLevel {
  double time = 0, alpha = 1, sigma = 0;
  bool clean() const { return sigma == 0; }
  double log_snr() const;  // log(alpha^2 / sigma^2), infinite at the ends
};

// The posterior of z_s given z_t and x is normal with mean from_z z_t + from_x x. A reverse step's
// variance lies between `least`, that of this posterior, and `most`, that of the forward step.
struct ReverseStep {
  double from_z = 0, from_x = 1, least = 0, most = 0;
};
ReverseStep reverse_step(const NoiseLevel& t, const NoiseLevel& s);

class NoiseSchedule {
 public:
  // For images of `height` pixels. Throws Code::kUsage if the options contradict each other.
  NoiseSchedule(const DiffusionConfig& config, int height);

  // Levels of a tabulated schedule, whose step k = 0 .. steps() - 1 has time (k + 1) / steps(); 0
  // for a continuous one.
  int steps() const { return static_cast<int>(log_alpha_bars_.size()); }
  NoiseLevel step(int k) const { return at((k + 1.0) / steps()); }
  // Between the steps of a table, log alpha is interpolated linearly.
  NoiseLevel at(double time) const;
  // The level with this log SNR. Its time is clamped to [0, 1].
  NoiseLevel at_log_snr(double log_snr) const;
  // Level `i` of `count` at equal steps of time, noisiest first.
  NoiseLevel grid_level(int i, int count) const;
  // The level that a clip is trained at, from a uniform draw from [0, 1) and a normal one.
  NoiseLevel training_level(double uniform, double normal) const;
  // The network's input for a level, 0 to 1000: the step of a table rescaled to 1000 steps, or the
  // angle 2 / pi atan(1 / sqrt(SNR)) with the SNR clamped to exp(+-20).
  double signal(const NoiseLevel& level) const;
  // Standard deviation of the initial noise of sampling that starts at this level.
  double start_deviation(const NoiseLevel& level) const;

 private:
  double log_snr_at(double time) const;
  NoiseLevel with_log_snr(double time, double log_snr) const;

  DiffusionConfig config_;
  double log_shift_ = 0;                // added to the log SNR, for the image size
  std::vector<double> log_alpha_bars_;  // of a table: log alpha^2
};

// Rows of `lastframe list schedules`.
struct ScheduleKind {
  const char* name;  // of DiffusionConfig::Schedule
  const char* help;
};
std::span<const ScheduleKind> schedule_kinds();

}  // namespace lf
