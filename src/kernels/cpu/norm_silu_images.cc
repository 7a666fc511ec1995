#include "kernels/cpu/norm_silu_images.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile.h"

namespace lf {
namespace {

// Vectors of channels in an image's memory.
struct Channels {
  int64_t count, padded_count;
  float *mean, *spread;  // group norm, of each channel's group
};

template <typename X>
LF_INLINE void group_moments(const NormSiluTask& task, const X* x, const Channels& at) {
  const int64_t part = task.channels / task.groups;
  const float each = 1.0F / static_cast<float>(part * task.places);
  for (float* moment : {at.mean, at.spread}) {
    const bool second = moment == at.spread;
    for (int64_t c = 0; c < task.channels; c += kLanes) {
      const int64_t count = std::min(kLanes, task.channels - c);
      const Lanes mean = second ? load(at.mean + c) : Lanes{};
      Lanes sum{};
      for (int64_t p = 0; p < task.places; ++p) {
        const Lanes off = load(x + p * task.channels + c, count) - mean;
        sum += second ? off * off : off;
      }
      store(moment + c, sum);
    }
    for (int64_t g = 0; g < task.groups; ++g) {
      float sum = 0;
      for (int64_t c = g * part; c < (g + 1) * part; ++c) sum += moment[c];
      const float value = second ? 1.0F / std::sqrt(sum * each + task.epsilon) : sum * each;
      for (int64_t c = g * part; c < (g + 1) * part; ++c) moment[c] = value;
    }
  }
}

constexpr float kShortest = 1e-12F;

// sqrt(C) / |x| of a position.
template <typename X>
LF_INLINE float rms_scale(const X* x, int64_t channels) {
  Lanes squares{};
  for (int64_t c = 0; c < channels; c += kLanes) {
    const Lanes one = load(x + c, channels - c);
    squares += one * one;
  }
  return std::sqrt(static_cast<float>(channels)) / std::max(std::sqrt(sum_of(squares)), kShortest);
}

LF_INLINE Channels memory(const NormSiluTask& task, Scratch& scratch) {
  const int64_t wide = padded(task.channels);
  return {task.channels, wide, scratch.take<float>(wide), scratch.take<float>(wide)};
}

template <typename X>
struct Image {
  static LF_INLINE void run(const NormSiluTask* given, int64_t image) {
    const NormSiluTask& task = *given;
    Scratch scratch;
    const Channels moments = memory(task, scratch);
    const int64_t begin = image * task.places * task.channels;
    const X* x = static_cast<const X*>(task.x) + begin;
    const X* residual =
        task.residual != nullptr ? static_cast<const X*>(task.residual) + begin : nullptr;
    X* y = static_cast<X*>(task.y) + begin;
    const float* gain = task.gain + image / task.shared * task.channels;
    const float* shift = task.shift + image / task.shared * task.channels;
    if (task.groups > 0) group_moments(task, x, moments);
    for (int64_t p = 0; p < task.places; ++p) {
      const int64_t row = p * task.channels;
      const float scale = task.groups > 0 ? 0 : rms_scale(x + row, task.channels);
      for (int64_t c = 0; c < task.channels; c += kLanes) {
        const int64_t count = std::min(kLanes, task.channels - c);
        Lanes normal = load(x + row + c, count);
        normal = task.groups > 0 ? (normal - load(moments.mean + c)) * load(moments.spread + c)
                                 : normal * scale;
        Lanes out = normal * load(gain + c, count) + load(shift + c, count);
        if (task.silu) out *= sigmoid(out);
        if (residual != nullptr) out += load(residual + row + c, count);
        store(y + row + c, out, count);
      }
    }
  }
};

template <typename X>
struct ImageBack {
  const NormSiluTask& task;
  const X *x, *dy;
  const float *gain, *shift;
  Channels moments;

  struct AtGradient {
    Lanes normal, gradient;  // gradient: of normal * gain + shift
  };
  LF_INLINE AtGradient gradient_at(int64_t row, int64_t c, float scale) const {
    const int64_t count = std::min(kLanes, task.channels - c);
    Lanes normal = load(x + row + c, count);
    normal = task.groups > 0 ? (normal - load(moments.mean + c)) * load(moments.spread + c)
                             : normal * scale;
    Lanes gradient = load(dy + row + c, count);
    if (task.silu) {
      const Lanes before = normal * load(gain + c, count) + load(shift + c, count);
      const Lanes part = sigmoid(before);
      gradient *= part * (1.0F + before * (1.0F - part));
    }
    return {normal, gradient};
  }
  LF_INLINE void add(int64_t c, const AtGradient& at, float* gains, float* shifts) const {
    store(gains + c, load(gains + c) + at.gradient * at.normal);
    store(shifts + c, load(shifts + c) + at.gradient);
  }

  LF_INLINE void rms(X* dx, float* gains, float* shifts, float* gradients, float* normals) const {
    for (int64_t p = 0; p < task.places; ++p) {
      const int64_t row = p * task.channels;
      const float scale = rms_scale(x + row, task.channels);
      Lanes along{};
      for (int64_t c = 0; c < task.channels; c += kLanes) {
        const int64_t count = std::min(kLanes, task.channels - c);
        const AtGradient at = gradient_at(row, c, scale);
        add(c, at, gains, shifts);
        const Lanes inner = at.gradient * load(gain + c, count);
        along += inner * at.normal;
        store(gradients + c, inner);
        store(normals + c, at.normal);
      }
      const float part = sum_of(along) / static_cast<float>(task.channels);
      for (int64_t c = 0; c < task.channels; c += kLanes) {
        const Lanes out = (load(gradients + c) - load(normals + c) * part) * scale;
        store(dx + row + c, out, task.channels - c);
      }
    }
  }

  LF_INLINE void group(X* dx, float* gains, float* shifts, float* mean, float* along) const {
    for (int64_t p = 0; p < task.places; ++p) {
      for (int64_t c = 0; c < task.channels; c += kLanes) {
        add(c, gradient_at(p * task.channels, c, 0), gains, shifts);
      }
    }
    const int64_t part = task.channels / task.groups;
    const float each = 1.0F / static_cast<float>(part * task.places);
    for (int64_t g = 0; g < task.groups; ++g) {
      float sum = 0, product = 0;
      for (int64_t c = g * part; c < (g + 1) * part; ++c) {
        sum += gain[c] * shifts[c];
        product += gain[c] * gains[c];
      }
      for (int64_t c = g * part; c < (g + 1) * part; ++c) {
        mean[c] = sum * each;
        along[c] = product * each;
      }
    }
    for (int64_t p = 0; p < task.places; ++p) {
      const int64_t row = p * task.channels;
      for (int64_t c = 0; c < task.channels; c += kLanes) {
        const int64_t count = std::min(kLanes, task.channels - c);
        const AtGradient at = gradient_at(row, c, 0);
        const Lanes inner = at.gradient * load(gain + c, count);
        store(dx + row + c,
              (inner - load(mean + c) - at.normal * load(along + c)) * load(moments.spread + c),
              count);
      }
    }
  }

  static LF_INLINE void run(const NormSiluTask* given, int64_t image) {
    const NormSiluTask& task = *given;
    Scratch scratch;
    const int64_t begin = image * task.places * task.channels, wide = padded(task.channels);
    const int64_t at = image / task.shared * task.channels;
    const ImageBack back{task,
                         static_cast<const X*>(task.x) + begin,
                         static_cast<const X*>(task.dy) + begin,
                         task.gain + at,
                         task.shift + at,
                         memory(task, scratch)};
    X* dx = static_cast<X*>(task.dx) + begin;
    auto* gains = scratch.take<float>(wide);
    auto* shifts = scratch.take<float>(wide);
    std::fill(gains, gains + wide, 0.0F);
    std::fill(shifts, shifts + wide, 0.0F);
    auto* first = scratch.take<float>(wide);
    auto* second = scratch.take<float>(wide);
    if (task.groups > 0) {
      group_moments(task, back.x, back.moments);
      back.group(dx, gains, shifts, first, second);
    } else {
      back.rms(dx, gains, shifts, first, second);
    }
    float* sums = task.sums + image * 2 * task.channels;
    std::copy(gains, gains + task.channels, sums);
    std::copy(shifts, shifts + task.channels, sums + task.channels);
  }
};

}  // namespace

void norm_silu_image(const NormSiluTask& task, int64_t image) {
  run_rows<Image>(task.bf16_rows, &task, image);
}

void norm_silu_image_back(const NormSiluTask& task, int64_t image) {
  run_rows<ImageBack>(task.bf16_rows, &task, image);
}

}  // namespace lf
