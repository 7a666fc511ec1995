// See norm_kernels.h: the forward pass. Bound by memory: a row is read once and stays in the
// registers of the lanes that share it. RMS and layer norm take one pass, group norm, whose
// statistics are those of an image, takes two.
#include "cuda/norm_rows.h"

namespace lf::norm_rows {
namespace {

template <typename X, typename Y, Kind kKind, int kEach>
__global__ void __launch_bounds__(kThreads, kEach <= 8 ? 3 : 1)
    norm_kernel(DeviceNorm task, int64_t slices, int lanes, bool aligned) {
  constexpr int kRows = kRowsAtOnce<kEach>;
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels, first_row = place.image * task.places;
  Weights<kEach> weights(task, place, aligned);
  Row<kEach> mean{}, factor{};
  if constexpr (kKind == Kind::kGroup) {
    load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                          place, mean, factor);
  }
  for (int64_t p = place.first; p < place.end; p += kRows * place.step) {
    Row<kEach> rows[kRows], residuals[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t at = (first_row + p + k * place.step) * channels;
      rows[k] = residuals[k] = Row<kEach>{};
      if (p + k * place.step >= place.end) continue;
      rows[k] = load_row<kEach>(as<X>(task.x.data) + at, channels, place, aligned);
      if (task.residual.data != nullptr) {
        residuals[k] = load_row<kEach>(as<X>(task.residual.data) + at, channels, place, aligned);
      }
    }
    weights.load_again(channels, place, aligned);
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      Row<kEach>& row = rows[k];
      if constexpr (kKind == Kind::kGroup) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) row.at[i] = (row.at[i] - mean.at[i]) * factor.at[i];
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
                       channels, place, aligned);
    }
  }
}

// Partial sums of a slice: of the offset from the image's first place, and of its square. The first
// place lies near the mean, so that little precision is lost where the mean is far from zero.
template <typename X, int kEach>
__global__ void __launch_bounds__(kThreads)
    group_sums_kernel(DeviceNorm task, int64_t slices, int lanes, bool aligned) {
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels;
  const X* image = as<X>(task.x.data) + place.image * task.places * channels;
  const Row<kEach> base = load_row<kEach>(image, channels, place, aligned);
  Row<kEach> sum{}, squares{};
  for (int64_t p = place.first; p < place.end; p += place.step) {
    const Row<kEach> row = load_row<kEach>(image + p * channels, channels, place, aligned);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float offset = row.at[i] - base.at[i];
      sum.at[i] += offset;
      squares.at[i] = fmaf(offset, offset, squares.at[i]);
    }
  }
  add_up<kEach>(sum, squares, channels, place, task.sums + blockIdx.x * 2 * channels);
}

// One warp for each group of an image: mean and 1 / deviation from the partial sums of the slices.
template <typename X>
__global__ void group_statistics_kernel(DeviceNorm task, int64_t slices) {
  const int64_t which = blockIdx.x, image = which / task.groups, group = which % task.groups;
  const int64_t width = task.channels / task.groups;
  const float* sums = task.sums + image * slices * 2 * task.channels;
  const X* base = as<X>(task.x.data) + image * task.places * task.channels;
  const float places = static_cast<float>(task.places);
  float total = 0;
  for (int64_t pass = 0;; ++pass) {  // the mean, then the variance
    const float mean = total / static_cast<float>(width);
    float next = 0;
    for (int64_t j = threadIdx.x; j < width; j += kWarp) {
      const int64_t c = group * width + j;
      float sum = 0, squares = 0;
      for (int64_t s = 0; s < slices; ++s) {
        sum += sums[s * 2 * task.channels + c];
        squares += sums[(s * 2 + 1) * task.channels + c];
      }
      const float offset = sum / places, own = to_float(base[c]) + offset;
      next += pass == 0
                  ? own
                  : fmaxf(squares - sum * offset, 0.0F) / places + (own - mean) * (own - mean);
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

template <typename X, int kEach>
cudaError_t group_statistics(const DeviceNorm& task, int lanes, bool aligned, cudaStream_t stream) {
  const int64_t slices = task.slices(), bytes = 2 * task.channels * sizeof(float);
  const cudaError_t status = launch({task.images * slices, kThreads, bytes, stream},
                                    group_sums_kernel<X, kEach>, task, slices, lanes, aligned);
  if (status != cudaSuccess) return status;
  return launch({task.images * task.groups, kWarp, 0, stream}, group_statistics_kernel<X>, task,
                slices);
}

template <typename X, typename Y, Kind kKind, int kEach>
cudaError_t forward(const DeviceNorm& task, cudaStream_t stream) {
  const int lanes = lanes_of(task.channels);
  const bool aligned = all_aligned<X, Y>(task);
  if constexpr (kKind == Kind::kGroup) {
    const cudaError_t status = group_statistics<X, kEach>(task, lanes, aligned, stream);
    if (status != cudaSuccess) return status;
  }
  const int64_t slices = blocks_of_image(task, lanes);
  return launch({task.images * slices, kThreads, 0, stream}, norm_kernel<X, Y, kKind, kEach>, task,
                slices, lanes, aligned);
}

}  // namespace
}  // namespace lf::norm_rows

namespace lf {

cudaError_t cuda_norm(const DeviceNorm& task, cudaStream_t stream) {
  using norm_rows::Kind;
  return norm_rows::dispatch(task, task.y.bf16,
                             [&]<typename X, typename Y, Kind kKind, int kEach>() {
                               return norm_rows::forward<X, Y, kKind, kEach>(task, stream);
                             });
}

}  // namespace lf
