// See norm_kernels.h. Bound by memory: a row is read once and stays in the registers of the lanes
// that share it. Forward of RMS and of layer norm is one pass, backward too, which computes the
// norm again rather than reading it; group norm, whose sums run over an image, takes two each way.
// A lane sees the same channels of every row, so that it sums their slopes by itself; the sums of
// a slice of an image are then added in a fixed order and left to the caller, slice by slice.
#include "cuda/norm_kernels.h"
#include "cuda/vectors.h"

namespace lf {
namespace {

using Kind = DeviceNorm::Kind;
constexpr int kThreads = 256;

// Where a thread works: rows first, first + step, ... of one image, in them channels lane * 4 +
// 4 * lanes * i and the three after.
struct Place {
  int64_t image, first, end, step;
  int lane, lanes;
  unsigned mask;
};

__device__ Place place_of(int64_t places, int64_t slices, int lanes) {
  const int64_t slice = blockIdx.x % slices, each = (places + slices - 1) / slices;
  const int sub = threadIdx.x / lanes;
  return {blockIdx.x / slices,
          slice * each + sub,
          slice * each + each < places ? slice * each + each : places,
          kThreads / lanes,
          static_cast<int>(threadIdx.x) % lanes,
          lanes,
          mask_of_group(lanes)};
}

template <int kEach>
struct Row {
  float at[kEach];
};

template <int kEach>
__device__ int64_t channel_of(const Place& place, int i) {
  return 4 * (place.lane + static_cast<int64_t>(place.lanes) * i);
}

template <int kEach, typename X>
__device__ Row<kEach> load_row(const X* from, int64_t channels, const Place& place, bool whole) {
  Row<kEach> row;
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    const int64_t c = channel_of<kEach>(place, i);
    const Four four = load_four(from + c, channels - c, whole);
#pragma unroll
    for (int e = 0; e < 4; ++e) row.at[4 * i + e] = four.at[e];
  }
  return row;
}

template <int kEach, typename X>
__device__ void store_row(X* to, const Row<kEach>& row, int64_t channels, const Place& place,
                          bool whole) {
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    const int64_t c = channel_of<kEach>(place, i);
    store_four(to + c, {{row.at[4 * i], row.at[4 * i + 1], row.at[4 * i + 2], row.at[4 * i + 3]}},
               channels - c, whole);
  }
}

// A number a group, for each channel that a lane sees.
template <int kEach>
__device__ void load_of_groups(const float* pairs, int64_t channels, int64_t groups,
                               const Place& place, Row<kEach>& first, Row<kEach>& second) {
  const int64_t width = channels / groups;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t c = channel_of<kEach>(place, i / 4) + i % 4;
    const int64_t group = c < channels ? c / width : 0;
    first.at[i] = pairs[2 * group];
    second.at[i] = pairs[2 * group + 1];
  }
}

// What a row is multiplied by once its mean is taken off, in place; channels that are not there
// stay zero. Gives the factor.
template <Kind kKind, int kEach>
__device__ float normalise(Row<kEach>& row, int64_t channels, float epsilon, const Place& place) {
  const float width = static_cast<float>(channels);
  if constexpr (kKind == Kind::kLayer) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += row.at[i];
    const float mean = sum_over(sum, place.lanes, place.mask) / width;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      row.at[i] = channel_of<kEach>(place, i / 4) + i % 4 < channels ? row.at[i] - mean : 0.0F;
    }
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) squares = fmaf(row.at[i], row.at[i], squares);
  squares = sum_over(squares, place.lanes, place.mask);
  const float factor = kKind == Kind::kLayer ? rsqrtf(squares / width + epsilon)
                                             : sqrtf(width) * over_length(squares);
#pragma unroll
  for (int i = 0; i < kEach; ++i) row.at[i] *= factor;
  return factor;
}

// Rows a thread has under way at once.
template <int kEach>
constexpr int kRowsAtOnce = kEach <= 8 ? 2 : 1;

// Of an image; kept in registers where there is room for them.
template <int kEach>
struct Weights {
  const float *gain_at, *shift_at;
  Row<kEach> gain, shift;

  __device__ Weights(const DeviceNorm& task, const Place& place, bool whole) {
    const int64_t at = place.image / task.shared * task.channels;
    gain_at = task.gain + at;
    shift_at = task.shift != nullptr ? task.shift + at : nullptr;
    if (kEach <= 16) load(task.channels, place, whole);
  }
  __device__ void load_again(int64_t channels, const Place& place, bool whole) {
    if (kEach > 16) load(channels, place, whole);
  }

 private:
  __device__ void load(int64_t channels, const Place& place, bool whole) {
    gain = load_row<kEach>(gain_at, channels, place, whole);
    shift = shift_at != nullptr ? load_row<kEach>(shift_at, channels, place, whole) : Row<kEach>{};
  }
};

template <typename X, typename Y, Kind kKind, int kEach>
__global__ void __launch_bounds__(kThreads, kEach <= 8 ? 3 : 1)
    norm_kernel(DeviceNorm task, int64_t slices, int lanes, bool whole) {
  constexpr int kRows = kRowsAtOnce<kEach>;
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels, first_row = place.image * task.places;
  Weights<kEach> weights(task, place, whole);
  Row<kEach> mean{}, spread{};
  if constexpr (kKind == Kind::kGroup) {
    load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                          place, mean, spread);
  }
  for (int64_t p = place.first; p < place.end; p += kRows * place.step) {
    Row<kEach> rows[kRows], residuals[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t at = (first_row + p + k * place.step) * channels;
      rows[k] = residuals[k] = Row<kEach>{};
      if (p + k * place.step >= place.end) continue;
      rows[k] = load_row<kEach>(as<X>(task.x.data) + at, channels, place, whole);
      if (task.residual.data != nullptr) {
        residuals[k] = load_row<kEach>(as<X>(task.residual.data) + at, channels, place, whole);
      }
    }
    weights.load_again(channels, place, whole);
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      Row<kEach>& row = rows[k];
      if constexpr (kKind == Kind::kGroup) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) row.at[i] = (row.at[i] - mean.at[i]) * spread.at[i];
      } else {
        normalise<kKind, kEach>(row, channels, task.epsilon, place);
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const float z = fmaf(row.at[i], weights.gain.at[i], weights.shift.at[i]);
        row.at[i] = (task.silu ? z * sigmoid(z) : z) + residuals[k].at[i];
      }
      if (p + k * place.step >= place.end) break;
      store_row<kEach>(as<Y>(task.y.data) + (first_row + p + k * place.step) * channels, row,
                       channels, place, whole);
    }
  }
}

// Adds up what the threads of a block hold for each channel, in a fixed order, into [2][channels].
template <int kEach>
__device__ void add_up(Row<kEach>& first, Row<kEach>& second, int64_t channels, const Place& place,
                       float* sums) {
  float* shared = shared_memory();
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    for (int offset = place.lanes; offset < kWarp; offset *= 2) {
      first.at[i] += __shfl_xor_sync(0xffffffffU, first.at[i], offset);
      second.at[i] += __shfl_xor_sync(0xffffffffU, second.at[i], offset);
    }
  }
  const int warp = threadIdx.x / kWarp;
  for (int turn = 0; turn < kThreads / kWarp; ++turn) {
    if (turn == warp && static_cast<int>(threadIdx.x) % kWarp < place.lanes) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int64_t c = channel_of<kEach>(place, i / 4) + i % 4;
        if (c >= channels) continue;
        shared[c] = (turn == 0 ? 0.0F : shared[c]) + first.at[i];
        shared[channels + c] = (turn == 0 ? 0.0F : shared[channels + c]) + second.at[i];
      }
    }
    __syncthreads();
  }
  for (int64_t i = threadIdx.x; i < 2 * channels; i += kThreads) sums[i] = shared[i];
}

// Sums of a slice: of what lies above an image's first place, and of its square. The first place
// lies near the mean, so that little is lost where the mean is far from zero.
template <typename X, int kEach>
__global__ void __launch_bounds__(kThreads)
    group_sums_kernel(DeviceNorm task, int64_t slices, int lanes, bool whole) {
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels;
  const X* image = as<X>(task.x.data) + place.image * task.places * channels;
  const Row<kEach> base = load_row<kEach>(image, channels, place, whole);
  Row<kEach> sum{}, squares{};
  for (int64_t p = place.first; p < place.end; p += place.step) {
    const Row<kEach> row = load_row<kEach>(image + p * channels, channels, place, whole);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float off = row.at[i] - base.at[i];
      sum.at[i] += off;
      squares.at[i] = fmaf(off, off, squares.at[i]);
    }
  }
  add_up<kEach>(sum, squares, channels, place, task.sums + blockIdx.x * 2 * channels);
}

// A warp a group of an image: from the sums of the slices its mean and 1 over its deviation.
template <typename X>
__global__ void group_statistics_kernel(DeviceNorm task, int64_t slices) {
  const int64_t which = blockIdx.x, image = which / task.groups, group = which % task.groups;
  const int64_t width = task.channels / task.groups;
  const float* sums = task.sums + image * slices * 2 * task.channels;
  const X* base = as<X>(task.x.data) + image * task.places * task.channels;
  const float places = static_cast<float>(task.places);
  float total = 0;
  for (int64_t pass = 0;; ++pass) {  // the mean, then what lies off it
    const float mean = total / static_cast<float>(width);
    float next = 0;
    for (int64_t j = threadIdx.x; j < width; j += kWarp) {
      const int64_t c = group * width + j;
      float sum = 0, squares = 0;
      for (int64_t s = 0; s < slices; ++s) {
        sum += sums[s * 2 * task.channels + c];
        squares += sums[(s * 2 + 1) * task.channels + c];
      }
      const float above = sum / places, own = to_float(base[c]) + above;
      next += pass == 0 ? own
                        : fmaxf(squares - sum * above, 0.0F) / places + (own - mean) * (own - mean);
    }
    next = sum_over(next, kWarp, 0xffffffffU);
    if (pass == 1) {
      if (threadIdx.x == 0) {
        task.statistics[2 * which] = mean;
        task.statistics[2 * which + 1] =
            1.0F / sqrtf(next / static_cast<float>(width) + task.epsilon);
      }
      return;
    }
    total = next;
  }
}

// From the gradient of y to that of silu's input.
__device__ float through_silu(float slope, float z) {
  const float s = sigmoid(z);
  return slope * s * (1.0F + z * (1.0F - s));
}

// One pass: the slopes of gain and shift of a slice, and dx. For group norm the first pass, which
// makes the slopes only.
template <typename X, typename Y, Kind kKind, int kEach>
__global__ void __launch_bounds__(kThreads, kEach <= 8 ? 2 : 1)
    norm_back_kernel(DeviceNorm task, int64_t slices, int lanes, bool whole) {
  constexpr int kRows = kRowsAtOnce<kEach>;
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels, first_row = place.image * task.places;
  const float width = static_cast<float>(channels);
  Weights<kEach> weights(task, place, whole);
  Row<kEach> mean{}, spread{}, up{}, down{};
  if constexpr (kKind == Kind::kGroup) {
    load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                          place, mean, spread);
  }
  for (int64_t p = place.first; p < place.end; p += kRows * place.step) {
    Row<kEach> rows[kRows], slopes[kRows], dx[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t at = (first_row + p + k * place.step) * channels;
      rows[k] = slopes[k] = dx[k] = Row<kEach>{};
      if (p + k * place.step >= place.end) continue;
      rows[k] = load_row<kEach>(as<X>(task.x.data) + at, channels, place, whole);
      slopes[k] = load_row<kEach>(as<Y>(task.dy.data) + at, channels, place, whole);
      if (task.added.data != nullptr) {
        dx[k] = load_row<kEach>(as<X>(task.added.data) + at, channels, place, whole);
      }
    }
    weights.load_again(channels, place, whole);
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      Row<kEach>&row = rows[k], &slope = slopes[k];
      float factor = 0;
      if constexpr (kKind == Kind::kGroup) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) row.at[i] = (row.at[i] - mean.at[i]) * spread.at[i];
      } else {
        factor = normalise<kKind, kEach>(row, channels, task.epsilon, place);
      }
      float level = 0, along = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (task.silu) {
          slope.at[i] =
              through_silu(slope.at[i], fmaf(row.at[i], weights.gain.at[i], weights.shift.at[i]));
        }
        up.at[i] = fmaf(slope.at[i], row.at[i], up.at[i]);
        down.at[i] += slope.at[i];
        slope.at[i] *= weights.gain.at[i];
        level += slope.at[i];
        along = fmaf(slope.at[i], row.at[i], along);
      }
      if constexpr (kKind != Kind::kGroup) {
        along = sum_over(along, lanes, place.mask) / width;
        level = kKind == Kind::kLayer ? sum_over(level, lanes, place.mask) / width : 0.0F;
        // A row too short for its norm was multiplied by a constant.
        if (kKind == Kind::kRms && factor > 0.999e12F * sqrtf(width)) along = 0;
        if (p + k * place.step >= place.end) break;
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          dx[k].at[i] = fmaf(slope.at[i] - level - row.at[i] * along, factor, dx[k].at[i]);
        }
        store_row<kEach>(as<X>(task.dx.data) + (first_row + p + k * place.step) * channels, dx[k],
                         channels, place, whole);
      }
    }
  }
  add_up<kEach>(up, down, channels, place, task.sums + blockIdx.x * 2 * channels);
}

// A warp a group of an image: the means over it of the slopes of the norm's result, plain and
// times that result.
__global__ void group_means_kernel(DeviceNorm task, int64_t slices) {
  const int64_t which = blockIdx.x, image = which / task.groups, group = which % task.groups;
  const int64_t width = task.channels / task.groups;
  const float* sums = task.sums + image * slices * 2 * task.channels;
  const float* gain = task.gain + image / task.shared * task.channels;
  float level = 0, along = 0;
  for (int64_t j = threadIdx.x; j < width; j += kWarp) {
    const int64_t c = group * width + j;
    float up = 0, down = 0;
    for (int64_t s = 0; s < slices; ++s) {
      up += sums[s * 2 * task.channels + c];
      down += sums[(s * 2 + 1) * task.channels + c];
    }
    level = fmaf(down, gain[c], level);
    along = fmaf(up, gain[c], along);
  }
  const float count = static_cast<float>(width) * static_cast<float>(task.places);
  level = sum_over(level, kWarp, 0xffffffffU) / count;
  along = sum_over(along, kWarp, 0xffffffffU) / count;
  if (threadIdx.x == 0) {
    task.means[2 * which] = level;
    task.means[2 * which + 1] = along;
  }
}

template <typename X, int kEach>
__global__ void __launch_bounds__(kThreads)
    group_dx_kernel(DeviceNorm task, int64_t slices, int lanes, bool whole) {
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels;
  Weights<kEach> weights(task, place, whole);
  Row<kEach> mean, spread, level, along;
  load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                        place, mean, spread);
  load_of_groups<kEach>(task.means + place.image * task.groups * 2, channels, task.groups, place,
                        level, along);
  for (int64_t p = place.first; p < place.end; p += place.step) {
    const int64_t at = (place.image * task.places + p) * channels;
    Row<kEach> row = load_row<kEach>(as<X>(task.x.data) + at, channels, place, whole);
    Row<kEach> slope = load_row<kEach>(as<X>(task.dy.data) + at, channels, place, whole);
    Row<kEach> dx{};
    weights.load_again(channels, place, whole);
    if (task.added.data != nullptr) {
      dx = load_row<kEach>(as<X>(task.added.data) + at, channels, place, whole);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float normal = (row.at[i] - mean.at[i]) * spread.at[i];
      float one = slope.at[i];
      if (task.silu) {
        one = through_silu(one, fmaf(normal, weights.gain.at[i], weights.shift.at[i]));
      }
      one = one * weights.gain.at[i] - level.at[i] - normal * along.at[i];
      dx.at[i] = fmaf(one, spread.at[i], dx.at[i]);
    }
    store_row<kEach>(as<X>(task.dx.data) + at, dx, channels, place, whole);
  }
}

// Eight numbers a lane at least, which pays for what a row costs.
int lanes_of(int64_t channels) { return lanes_of_row((channels + 1) / 2); }

// Whether rows of `channels` numbers that begin at `data` may be read four at a time.
template <typename X>
bool aligned(const void* data, int64_t channels) {
  return channels % 4 == 0 && reinterpret_cast<uintptr_t>(data) % (4 * sizeof(X)) == 0;
}

template <typename X, typename Y>
bool all_aligned(const DeviceNorm& task) {
  const int64_t c = task.channels;
  return aligned<X>(task.x.data, c) && aligned<X>(task.residual.data, c) &&
         aligned<Y>(task.y.data, c) && aligned<Y>(task.dy.data, c) &&
         aligned<X>(task.added.data, c) && aligned<X>(task.dx.data, c) &&
         aligned<float>(task.gain, c) && aligned<float>(task.shift, c);
}

template <typename X, typename Y, Kind kKind, int kEach>
cudaError_t forward(const DeviceNorm& task, cudaStream_t stream) {
  const int lanes = lanes_of(task.channels);
  const bool whole = all_aligned<X, Y>(task);
  if constexpr (kKind == Kind::kGroup) {
    const int64_t slices = task.slices(), bytes = 2 * task.channels * sizeof(float);
    if (const cudaError_t status = launch({task.images * slices, kThreads, bytes, stream},
                                          group_sums_kernel<X, kEach>, task, slices, lanes, whole);
        status != cudaSuccess) {
      return status;
    }
    if (const cudaError_t status = launch({task.images * task.groups, kWarp, 0, stream},
                                          group_statistics_kernel<X>, task, slices);
        status != cudaSuccess) {
      return status;
    }
  }
  // A few rows to a thread: gain and shift are loaded for each block.
  constexpr int64_t kRows = 8;
  const int64_t slices = parts_of(task.places, kRows * (kThreads / lanes));
  return launch({task.images * slices, kThreads, 0, stream}, norm_kernel<X, Y, kKind, kEach>, task,
                slices, lanes, whole);
}

template <typename X, typename Y, Kind kKind, int kEach>
cudaError_t backward(const DeviceNorm& task, cudaStream_t stream) {
  const int lanes = lanes_of(task.channels);
  const bool whole = all_aligned<X, Y>(task);
  const int64_t slices = task.slices(), bytes = 2 * task.channels * sizeof(float);
  const cudaError_t status =
      launch({task.images * slices, kThreads, bytes, stream}, norm_back_kernel<X, Y, kKind, kEach>,
             task, slices, lanes, whole);
  if constexpr (kKind != Kind::kGroup) {
    return status;
  } else {
    if (status != cudaSuccess) return status;
    if (const cudaError_t next =
            launch({task.images * task.groups, kWarp, 0, stream}, group_means_kernel, task, slices);
        next != cudaSuccess) {
      return next;
    }
    constexpr int64_t kRows = 8;
    const int64_t parts = parts_of(task.places, kRows * (kThreads / lanes));
    return launch({task.images * parts, kThreads, 0, stream}, group_dx_kernel<X, kEach>, task,
                  parts, lanes, whole);
  }
}

template <typename X, typename Y, Kind kKind>
cudaError_t of_width(const DeviceNorm& task, bool back, cudaStream_t stream) {
  const auto run = [&]<int kEach>() {
    return back ? backward<X, Y, kKind, kEach>(task, stream)
                : forward<X, Y, kKind, kEach>(task, stream);
  };
  const int64_t each = 4 * parts_of(task.channels, 4 * lanes_of(task.channels));
  if (each <= 8) return run.template operator()<8>();
  if (each <= 16) return run.template operator()<16>();
  if (each <= 32) return run.template operator()<32>();
  return cudaErrorInvalidValue;
}

template <typename X, typename Y>
cudaError_t of_kind(const DeviceNorm& task, bool back, cudaStream_t stream) {
  if (task.kind == Kind::kLayer) return of_width<X, Y, Kind::kLayer>(task, back, stream);
  if constexpr (sizeof(X) == sizeof(Y)) {
    if (task.kind == Kind::kRms) return of_width<X, Y, Kind::kRms>(task, back, stream);
    return of_width<X, Y, Kind::kGroup>(task, back, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t of_types(const DeviceNorm& task, bool y_half, bool back, cudaStream_t stream) {
  if (task.images <= 0 || task.places <= 0 || task.channels <= 0) return cudaErrorInvalidValue;
  if (task.x.half) {
    return y_half ? of_kind<Bf16, Bf16>(task, back, stream) : cudaErrorInvalidValue;
  }
  return y_half ? of_kind<float, Bf16>(task, back, stream)
                : of_kind<float, float>(task, back, stream);
}

}  // namespace

cudaError_t cuda_norm(const DeviceNorm& task, cudaStream_t stream) {
  return of_types(task, task.y.half, false, stream);
}

cudaError_t cuda_norm_back(const DeviceNorm& task, cudaStream_t stream) {
  return of_types(task, task.dy.half, true, stream);
}

}  // namespace lf
