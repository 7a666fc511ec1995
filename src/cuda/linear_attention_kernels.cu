// See linear_attention_kernels.h: the forward pass. Keys and values are read once for the contexts:
// each slice of the places has a running softmax of its keys, and the slices are joined in their
// order. Queries are read once for the result and pass through their softmax on the way into shared
// memory.
#include "cuda/linear_attention_tiles.h"

namespace lf::linear_attention_tiles {
namespace {

// The running softmax of a tile's keys over places. Each column of them has `workers` threads,
// which share its places; a thread beyond all columns has none.
struct KeySoftmax {
  const Shape& shape;
  float* column;  // [workers][padded], scratch
  float* factor;  // [padded], what the sums of earlier tiles must be multiplied by
  int workers, worker, d;
  float most = -INFINITY, sum = 0;  // of column d; the sum is over this worker's places

  __device__ KeySoftmax(const Shape& of, float* memory)
      : shape(of),
        column(memory + of.padded()),
        factor(memory),
        workers(kThreads / of.padded()),
        worker(threadIdx.x / of.padded()),
        d(threadIdx.x % of.padded()) {}

  // Keys of `count` places to exponentials above the maximum so far, in place.
  __device__ __forceinline__ void take(const SharedMatrix& key, int64_t count) {
    const int padded = shape.padded();
    if (worker < workers) {
      float own = -INFINITY;
      for (int p = worker; p < kPlaces; p += workers) own = fmaxf(own, key.data[p * key.row + d]);
      column[worker * padded + d] = own;
    }
    __syncthreads();
    if (worker < workers) {
      float now = most;
      for (int w = 0; w < workers; ++w) now = fmaxf(now, column[w * padded + d]);
      const float shrink = most == -INFINITY ? 0.0F : __expf(most - now);
      most = now;
      sum *= shrink;
      if (worker == 0) factor[d] = shrink;
      for (int p = worker; p < kPlaces; p += workers) {
        float& one = key.data[p * key.row + d];
        one = d < shape.depth && p < count ? __expf(one - now) : 0.0F;
        sum += one;
      }
    }
  }

  // The maxima and the sums, to [2][depth].
  __device__ __forceinline__ void store(float* to) const {
    const int padded = shape.padded();
    if (worker < workers) column[worker * padded + d] = sum;
    __syncthreads();
    if (worker == 0 && d < shape.depth) {
      float total = 0;
      for (int w = 0; w < workers; ++w) total += column[w * padded + d];
      to[d] = most;
      to[shape.depth + d] = total;
    }
  }
};

// A slice's part: the maxima that its keys' exponentials are relative to, their sums, and the
// context, not yet divided by the sums.
template <typename X>
__global__ void __launch_bounds__(kThreads)
    context_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix key{shared, shape.row}, value{shared + kPlaces * shape.row, shape.row};
  KeySoftmax softmax(shape, shared + 2 * kPlaces * shape.row);
  const Range range = range_of(task, slices);
  ContextSums context(shape);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    const auto load = [&](Map which, const SharedMatrix& to, float missing) {
      load_rows(
          as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, which); }, place,
          range.end, shape, to, missing, Unchanged());
    };
    load(kKey, key, -INFINITY);
    load(kValue, value, 0.0F);
    __syncthreads();
    softmax.take(key, range.end - place);
    __syncthreads();
    context.add(key, value, softmax.factor);
    __syncthreads();
  }
  float* part = task.parts + static_cast<int64_t>(blockIdx.x) * shape.depth * (shape.depth + 2);
  softmax.store(part);
  context.store(part + 2 * shape.depth, 1.0F);
}

// Joins the parts of a frame's head.
__global__ void __launch_bounds__(kThreads)
    join_contexts_kernel(DeviceLinearAttention task, int depth, int64_t slices) {
  const int64_t size = static_cast<int64_t>(depth) * (depth + 2), which = blockIdx.x;
  const float* parts = task.parts + which * slices * size;
  for (int i = threadIdx.x; i < depth * depth; i += kThreads) {
    const int d = i / depth;
    float most = -INFINITY, sum = 0, total = 0;
    for (int64_t s = 0; s < slices; ++s) most = fmaxf(most, parts[s * size + d]);
    for (int64_t s = 0; s < slices; ++s) {
      // A slice without places adds nothing.
      const float own = parts[s * size + d];
      const float factor = own == -INFINITY ? 0.0F : __expf(own - most);
      sum = fmaf(factor, parts[s * size + depth + d], sum);
      total = fmaf(factor, parts[s * size + 2 * depth + i], total);
    }
    task.context[which * depth * depth + i] = total / sum;
    if (i % depth == 0) {
      task.statistics[which * 2 * depth + d] = most;
      task.statistics[(which * 2 + 1) * depth + d] = sum;
    }
  }
}

template <typename X>
__global__ void __launch_bounds__(kThreads)
    mix_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix query{shared, shape.row}, context{shared + kPlaces * shape.row, shape.row};
  const Range range = range_of(task, slices);
  load_context(task.context + range.which * shape.depth * shape.depth, shape, false, context);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    load_rows(
        as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, kQuery); }, place,
        range.end, shape, query, 0.0F, RowSoftmax{shape});
    __syncthreads();
    over_tiles(shape, [&](int p, int c) {
      Tile tile{};
      add_product(query, p, context, c, shape.padded(), tile);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) tile.at[i][j] *= task.scale;
      }
      store_tile(
          tile, as<X>(task.mixed.data), [&](int64_t at) { return at_mixed(task, range, at); },
          place + p, range.end, c, shape);
    });
    __syncthreads();
  }
}

bool fits(const DeviceLinearAttention& task) {
  if (task.head_width > kMostDepth) return false;
  return bytes_of(back_floats(shape_of<float>(task))) <= most_shared_memory();
}

template <typename X>
cudaError_t forward(const DeviceLinearAttention& task, cudaStream_t stream) {
  const Shape shape = shape_of<X>(task);
  const int64_t heads = task.frames * task.heads, slices = task.slices();
  const int64_t rows = kPlaces * shape.row;
  if (const cudaError_t status =
          launch({heads * slices, kThreads, bytes_of(2 * rows + shape.padded() + kThreads), stream},
                 context_kernel<X>, task, shape, slices);
      status != cudaSuccess) {
    return status;
  }
  if (const cudaError_t status =
          launch({heads, kThreads, 0, stream}, join_contexts_kernel, task, shape.depth, slices);
      status != cudaSuccess) {
    return status;
  }
  return launch({heads * slices_of_result(task), kThreads,
                 bytes_of(rows + shape.padded() * shape.row), stream},
                mix_kernel<X>, task, shape, slices_of_result(task));
}

}  // namespace
}  // namespace lf::linear_attention_tiles

namespace lf {

bool cuda_takes_linear_attention(const DeviceLinearAttention& task) {
  return linear_attention_tiles::fits(task);
}

cudaError_t cuda_linear_attention(const DeviceLinearAttention& task, cudaStream_t stream) {
  return task.maps.bf16 ? linear_attention_tiles::forward<Bf16>(task, stream)
                        : linear_attention_tiles::forward<float>(task, stream);
}

}  // namespace lf
