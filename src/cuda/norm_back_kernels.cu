// See norm_kernels.h: the backward pass, which normalises x again rather than reading the result.
// RMS and layer norm take one pass, group norm, whose means are those of an image, takes two. A
// lane sees the same channels of every row, so it sums their gradients by itself; a block then adds
// up its lanes in a fixed order and leaves partial sums, a slice of an image each, to the caller.
#include "cuda/norm_rows.h"

namespace lf::norm_rows {
namespace {

// From the gradient of silu(z) to that of z.
__device__ float silu_back(float gradient, float z) {
  const float s = sigmoid(z);
  return gradient * s * (1.0F + z * (1.0F - s));
}

// The gradients of gain and shift, summed over this thread's rows.
template <int kEach>
struct WeightGradients {
  Row<kEach> gain{}, shift{};
};

// Sums over a row's channels that its gradient needs.
struct RowSums {
  float gradient = 0, product = 0;  // of the normalised row's gradient; of it times that row
};

// From the gradient of a row of y to that of the normalised row, in place.
template <int kEach>
__device__ __forceinline__ RowSums scale_and_shift_back(const Row<kEach>& row, Row<kEach>& gradient,
                                                        const Weights<kEach>& weights, bool silu,
                                                        WeightGradients<kEach>& sums) {
  RowSums result;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (silu) {
      gradient.at[i] =
          silu_back(gradient.at[i], fmaf(row.at[i], weights.gain.at[i], weights.shift.at[i]));
    }
    sums.gain.at[i] = fmaf(gradient.at[i], row.at[i], sums.gain.at[i]);
    sums.shift.at[i] += gradient.at[i];
    gradient.at[i] *= weights.gain.at[i];
    result.gradient += gradient.at[i];
    result.product = fmaf(gradient.at[i], row.at[i], result.product);
  }
  return result;
}

// Adds the gradient of x to `dx`; `factor` is what normalise() returned.
template <Kind kKind, int kEach>
__device__ __forceinline__ void normalise_back(const Row<kEach>& row, const Row<kEach>& gradient,
                                               RowSums sums, float width, float factor,
                                               const Place& place, Row<kEach>& dx) {
  float product = sum_over(sums.product, place.lanes, place.mask) / width;
  const float mean =
      kKind == Kind::kLayer ? sum_over(sums.gradient, place.lanes, place.mask) / width : 0.0F;
  // A row shorter than the norm's bound was multiplied by a constant.
  if (kKind == Kind::kRms && factor > 0.999e12F * sqrtf(width)) product = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    dx.at[i] = fmaf(gradient.at[i] - mean - row.at[i] * product, factor, dx.at[i]);
  }
}

// Partial sums of the gradients of gain and shift of a slice, and dx. For group norm this is the
// first of two passes, which leaves dx to the second.
template <typename X, typename Y, Kind kKind, int kEach>
__global__ void __launch_bounds__(kThreads, kEach <= 8 ? 2 : 1)
    norm_back_kernel(DeviceNorm task, int64_t slices, int lanes, bool aligned) {
  constexpr int kRows = kRowsAtOnce<kEach>;
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels, first_row = place.image * task.places;
  const float width = static_cast<float>(channels);
  Weights<kEach> weights(task, place, aligned);
  WeightGradients<kEach> sums;
  Row<kEach> mean{}, factors{};
  if constexpr (kKind == Kind::kGroup) {
    load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                          place, mean, factors);
  }
  for (int64_t p = place.first; p < place.end; p += kRows * place.step) {
    Row<kEach> rows[kRows], gradients[kRows], dx[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t at = (first_row + p + k * place.step) * channels;
      rows[k] = gradients[k] = dx[k] = Row<kEach>{};
      if (p + k * place.step >= place.end) continue;
      rows[k] = load_row<kEach>(as<X>(task.x.data) + at, channels, place, aligned);
      gradients[k] = load_row<kEach>(as<Y>(task.dy.data) + at, channels, place, aligned);
      if (task.added.data != nullptr) {
        dx[k] = load_row<kEach>(as<X>(task.added.data) + at, channels, place, aligned);
      }
    }
    weights.load_again(channels, place, aligned);
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      Row<kEach>& row = rows[k];
      if constexpr (kKind == Kind::kGroup) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) row.at[i] = (row.at[i] - mean.at[i]) * factors.at[i];
        scale_and_shift_back<kEach>(row, gradients[k], weights, task.silu, sums);
      } else {
        const float factor = normalise<kKind, kEach>(row, channels, task.epsilon, place);
        const RowSums of_row =
            scale_and_shift_back<kEach>(row, gradients[k], weights, task.silu, sums);
        normalise_back<kKind, kEach>(row, gradients[k], of_row, width, factor, place, dx[k]);
        if (p + k * place.step >= place.end) break;
        store_row<kEach>(as<X>(task.dx.data) + (first_row + p + k * place.step) * channels, dx[k],
                         channels, place, aligned);
      }
    }
  }
  add_up<kEach>(sums.gain, sums.shift, channels, place, task.sums + blockIdx.x * 2 * channels);
}

// One warp for each group of an image: the means over it of the normalised rows' gradient, and of
// that gradient times those rows.
__global__ void group_means_kernel(DeviceNorm task, int64_t slices) {
  const int64_t which = blockIdx.x, image = which / task.groups, group = which % task.groups;
  const int64_t width = task.channels / task.groups;
  const float* sums = task.sums + image * slices * 2 * task.channels;
  const float* gain = task.gain + image / task.shared * task.channels;
  float gradient = 0, product = 0;
  for (int64_t j = threadIdx.x; j < width; j += kWarp) {
    const int64_t c = group * width + j;
    float d_gain = 0, d_shift = 0;
    for (int64_t s = 0; s < slices; ++s) {
      d_gain += sums[s * 2 * task.channels + c];
      d_shift += sums[(s * 2 + 1) * task.channels + c];
    }
    gradient = fmaf(d_shift, gain[c], gradient);
    product = fmaf(d_gain, gain[c], product);
  }
  const float count = static_cast<float>(width) * static_cast<float>(task.places);
  gradient = sum_over(gradient, kWarp, 0xffffffffU) / count;
  product = sum_over(product, kWarp, 0xffffffffU) / count;
  if (threadIdx.x == 0) {
    task.means[2 * which] = gradient;
    task.means[2 * which + 1] = product;
  }
}

template <typename X, int kEach>
__global__ void __launch_bounds__(kThreads)
    group_dx_kernel(DeviceNorm task, int64_t slices, int lanes, bool aligned) {
  const Place place = place_of(task.places, slices, lanes);
  const int64_t channels = task.channels;
  Weights<kEach> weights(task, place, aligned);
  Row<kEach> mean, factor, mean_gradient, mean_product;
  load_of_groups<kEach>(task.statistics + place.image * task.groups * 2, channels, task.groups,
                        place, mean, factor);
  load_of_groups<kEach>(task.means + place.image * task.groups * 2, channels, task.groups, place,
                        mean_gradient, mean_product);
  for (int64_t p = place.first; p < place.end; p += place.step) {
    const int64_t at = (place.image * task.places + p) * channels;
    Row<kEach> row = load_row<kEach>(as<X>(task.x.data) + at, channels, place, aligned);
    Row<kEach> gradient = load_row<kEach>(as<X>(task.dy.data) + at, channels, place, aligned);
    Row<kEach> dx{};
    weights.load_again(channels, place, aligned);
    if (task.added.data != nullptr) {
      dx = load_row<kEach>(as<X>(task.added.data) + at, channels, place, aligned);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float normal = (row.at[i] - mean.at[i]) * factor.at[i];
      float one = gradient.at[i];
      if (task.silu) {
        one = silu_back(one, fmaf(normal, weights.gain.at[i], weights.shift.at[i]));
      }
      one = one * weights.gain.at[i] - mean_gradient.at[i] - normal * mean_product.at[i];
      dx.at[i] = fmaf(one, factor.at[i], dx.at[i]);
    }
    store_row<kEach>(as<X>(task.dx.data) + at, dx, channels, place, aligned);
  }
}

template <typename X, typename Y, Kind kKind, int kEach>
cudaError_t backward(const DeviceNorm& task, cudaStream_t stream) {
  const int lanes = lanes_of(task.channels);
  const bool aligned = all_aligned<X, Y>(task);
  const int64_t slices = task.slices(), bytes = 2 * task.channels * sizeof(float);
  const cudaError_t status =
      launch({task.images * slices, kThreads, bytes, stream}, norm_back_kernel<X, Y, kKind, kEach>,
             task, slices, lanes, aligned);
  if constexpr (kKind != Kind::kGroup) {
    return status;
  } else {
    if (status != cudaSuccess) return status;
    if (const cudaError_t next =
            launch({task.images * task.groups, kWarp, 0, stream}, group_means_kernel, task, slices);
        next != cudaSuccess) {
      return next;
    }
    const int64_t blocks = blocks_of_image(task, lanes);
    return launch({task.images * blocks, kThreads, 0, stream}, group_dx_kernel<X, kEach>, task,
                  blocks, lanes, aligned);
  }
}

}  // namespace
}  // namespace lf::norm_rows

namespace lf {

cudaError_t cuda_norm_back(const DeviceNorm& task, cudaStream_t stream) {
  using norm_rows::Kind;
  return norm_rows::dispatch(task, task.dy.bf16,
                             [&]<typename X, typename Y, Kind kKind, int kEach>() {
                               return norm_rows::backward<X, Y, kKind, kEach>(task, stream);
                             });
}

}  // namespace lf
