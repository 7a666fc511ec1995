// What both passes of norms share: how threads divide an image's rows among themselves, rows in
// registers, and the choice of a kernel's types. A row is one place with its channels; the lanes
// that share it keep it in registers. For norm_kernels.cu and norm_back_kernels.cu; for nvcc only.
#pragma once

#include "cuda/norm_kernels.h"
#include "cuda/vectors.h"

namespace lf::norm_rows {

using Kind = DeviceNorm::Kind;
constexpr int kThreads = 256;

// The work of a thread: rows first, first + step, ... of one image, and in each of them channels
// 4 * lane + 4 * lanes * i and the three after. So a lane sees the same channels of every row.
struct Place {
  int64_t image, first, end, step;
  int lane, lanes;
  unsigned mask;
};

__device__ inline Place place_of(int64_t places, int64_t slices, int lanes) {
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
__device__ Row<kEach> load_row(const X* from, int64_t channels, const Place& place, bool aligned) {
  Row<kEach> row;
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    const int64_t c = channel_of<kEach>(place, i);
    const Four four = load_four(from + c, channels - c, aligned);
#pragma unroll
    for (int e = 0; e < 4; ++e) row.at[4 * i + e] = four.at[e];
  }
  return row;
}

template <int kEach, typename X>
__device__ void store_row(X* to, const Row<kEach>& row, int64_t channels, const Place& place,
                          bool aligned) {
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    const int64_t c = channel_of<kEach>(place, i);
    store_four(to + c, {{row.at[4 * i], row.at[4 * i + 1], row.at[4 * i + 2], row.at[4 * i + 3]}},
               channels - c, aligned);
  }
}

// Spreads `pairs` [groups][2] over the channels of a lane.
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

// Normalises a row in place and returns the factor that its centred elements were multiplied by.
// Channels beyond the last stay zero.
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

// Rows that a thread loads before it uses the first.
template <int kEach>
constexpr int kRowsAtOnce = kEach <= 8 ? 2 : 1;

// Gain and shift of an image, kept in registers where there is room for them.
template <int kEach>
struct Weights {
  const float *gain_at, *shift_at;
  Row<kEach> gain, shift;

  __device__ Weights(const DeviceNorm& task, const Place& place, bool aligned) {
    const int64_t at = place.image / task.shared * task.channels;
    gain_at = task.gain + at;
    shift_at = task.shift != nullptr ? task.shift + at : nullptr;
    if (kEach <= 16) load(task.channels, place, aligned);
  }
  __device__ void load_again(int64_t channels, const Place& place, bool aligned) {
    if (kEach > 16) load(channels, place, aligned);
  }

 private:
  __device__ void load(int64_t channels, const Place& place, bool aligned) {
    gain = load_row<kEach>(gain_at, channels, place, aligned);
    shift =
        shift_at != nullptr ? load_row<kEach>(shift_at, channels, place, aligned) : Row<kEach>{};
  }
};

// Adds up what the threads of a block hold for each channel, in a fixed order, into
// `sums` [2][channels].
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

// At least eight elements a lane: a row has a cost of its own.
inline int lanes_of(int64_t channels) { return lanes_of_row((channels + 1) / 2); }

template <typename X>
bool rows_aligned(const void* data, int64_t channels) {
  return channels % 4 == 0 && aligned_to_four<X>(data);
}

template <typename X, typename Y>
bool all_aligned(const DeviceNorm& task) {
  const int64_t c = task.channels;
  return rows_aligned<X>(task.x.data, c) && rows_aligned<X>(task.residual.data, c) &&
         rows_aligned<Y>(task.y.data, c) && rows_aligned<Y>(task.dy.data, c) &&
         rows_aligned<X>(task.added.data, c) && rows_aligned<X>(task.dx.data, c) &&
         rows_aligned<float>(task.gain, c) && rows_aligned<float>(task.shift, c);
}

// Blocks of an image where a thread has few rows: each block loads gain and shift.
inline int64_t blocks_of_image(const DeviceNorm& task, int lanes) {
  constexpr int64_t kRows = 8;
  return parts_of(task.places, kRows * (kThreads / lanes));
}

// Runs `run`<X, Y, kKind, kEach>() for the types of x and y, the kind of norm and the elements that
// a lane has of a row.
template <typename X, typename Y, Kind kKind, typename Run>
cudaError_t dispatch_width(const DeviceNorm& task, const Run& run) {
  const int64_t each = 4 * parts_of(task.channels, 4 * lanes_of(task.channels));
  if (each <= 8) return run.template operator()<X, Y, kKind, 8>();
  if (each <= 16) return run.template operator()<X, Y, kKind, 16>();
  if (each <= 32) return run.template operator()<X, Y, kKind, 32>();
  return cudaErrorInvalidValue;
}

template <typename X, typename Y, typename Run>
cudaError_t dispatch_kind(const DeviceNorm& task, const Run& run) {
  if (task.kind == Kind::kLayer) return dispatch_width<X, Y, Kind::kLayer>(task, run);
  if constexpr (sizeof(X) == sizeof(Y)) {
    if (task.kind == Kind::kRms) return dispatch_width<X, Y, Kind::kRms>(task, run);
    return dispatch_width<X, Y, Kind::kGroup>(task, run);
  }
  return cudaErrorInvalidValue;
}

template <typename Run>
cudaError_t dispatch(const DeviceNorm& task, bool y_is_bf16, const Run& run) {
  if (task.images <= 0 || task.places <= 0 || task.channels <= 0) return cudaErrorInvalidValue;
  if (task.x.bf16) {
    return y_is_bf16 ? dispatch_kind<Bf16, Bf16>(task, run) : cudaErrorInvalidValue;
  }
  return y_is_bf16 ? dispatch_kind<float, Bf16>(task, run) : dispatch_kind<float, float>(task, run);
}

}  // namespace lf::norm_rows
