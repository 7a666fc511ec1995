// See linear_attention_kernels.h: the backward pass. First the gradients of the contexts, then
// those of the maps, in which keys' softmax over places takes
//   d key = key (d key' - sum over places (key d key')),
// where that sum is the one over e of context[d][e] d context[d][e].
#include "cuda/linear_attention_tiles.h"

namespace lf::linear_attention_tiles {
namespace {

// Keys' softmax over places, from the statistics that forward left.
struct ColumnSoftmax {
  Shape shape;
  const float* statistics;  // [2][depth]
  __device__ void operator()(Four& row, int c, bool valid, unsigned) const {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      row.at[e] = valid && c + e < shape.depth ? __fdividef(__expf(row.at[e] - statistics[c + e]),
                                                            statistics[shape.depth + c + e])
                                               : 0.0F;
    }
  }
};

// A slice's part of the gradient of a context.
template <typename X>
__global__ void __launch_bounds__(kThreads)
    context_back_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix query{shared, shape.row}, gradient{shared + kPlaces * shape.row, shape.row};
  const Range range = range_of(task, slices);
  ContextSums context(shape);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    load_rows(
        as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, kQuery); }, place,
        range.end, shape, query, 0.0F, RowSoftmax{shape});
    load_rows(
        as<X>(task.d_mixed.data), [&](int64_t p) { return at_mixed(task, range, p); }, place,
        range.end, shape, gradient, 0.0F, Unchanged());
    __syncthreads();
    context.add(query, gradient, nullptr);
    __syncthreads();
  }
  context.store(task.parts + static_cast<int64_t>(blockIdx.x) * shape.depth * (shape.depth + 2),
                task.scale);
}

__global__ void __launch_bounds__(kThreads)
    join_gradients_kernel(DeviceLinearAttention task, int depth, int64_t slices) {
  const int64_t size = static_cast<int64_t>(depth) * (depth + 2), which = blockIdx.x;
  for (int i = threadIdx.x; i < depth * depth; i += kThreads) {
    float sum = 0;
    for (int64_t s = 0; s < slices; ++s) sum += task.parts[(which * slices + s) * size + i];
    task.d_context[which * depth * depth + i] = sum;
  }
}

// The gradients of queries, from those of their softmax in `gradients`.
template <typename X>
__device__ void store_query_gradients(const DeviceLinearAttention& task, const Shape& shape,
                                      const Range& range, int64_t place, const SharedMatrix& query,
                                      const SharedMatrix& gradients) {
  const int lanes = shape.lanes, lane = threadIdx.x % lanes, c = 4 * lane;
  const unsigned mask = mask_of_group(lanes);
  for (int r = threadIdx.x / lanes; r < kPlaces && place + r < range.end; r += kThreads / lanes) {
    Four softmax{}, gradient{};
    if (c < shape.depth) {
      softmax = query.four(r, c);
      gradient = gradients.four(r, c);
    }
    float product = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) product = fmaf(softmax.at[e], gradient.at[e], product);
    product = sum_over(product, lanes, mask);
#pragma unroll
    for (int e = 0; e < 4; ++e) gradient.at[e] = softmax.at[e] * (gradient.at[e] - product);
    store_four(as<X>(task.d_maps.data) + at_map(task, range, place + r, kQuery) + c, gradient,
               shape.depth - c, shape.aligned);
  }
}

// A block's shared memory: a tile of places of each map and of the result's gradient, the contexts
// that they are multiplied by, and the sums over places of key times its gradient.
struct BackMatrices {
  SharedMatrix query, key, value, gradient;
  SharedMatrix context_transposed, d_context, d_context_transposed;
  float* products;  // [padded]
};

__device__ BackMatrices back_matrices(const Shape& shape) {
  float* shared = shared_memory();
  const int rows = kPlaces * shape.row, square = shape.padded() * shape.row;
  float* contexts = shared + 4 * rows;
  return {{shared, shape.row},
          {shared + rows, shape.row},
          {shared + 2 * rows, shape.row},
          {shared + 3 * rows, shape.row},
          {contexts, shape.row},
          {contexts + square, shape.row},
          {contexts + 2 * square, shape.row},
          contexts + 3 * square};
}

__device__ __forceinline__ void load_contexts(const DeviceLinearAttention& task, const Shape& shape,
                                              const Range& range, const BackMatrices& m) {
  const int64_t at = range.which * shape.depth * shape.depth;
  load_context(task.context + at, shape, true, m.context_transposed);
  load_context(task.d_context + at, shape, false, m.d_context);
  load_context(task.d_context + at, shape, true, m.d_context_transposed);
  __syncthreads();
  for (int d = threadIdx.x; d < shape.padded(); d += kThreads) {
    float sum = 0;
    for (int e = 0; e < shape.depth; ++e) {
      sum = fmaf(m.context_transposed.data[e * shape.row + d],
                 m.d_context_transposed.data[e * shape.row + d], sum);
    }
    m.products[d] = sum;
  }
}

template <typename X>
__device__ __forceinline__ void load_maps(const DeviceLinearAttention& task, const Shape& shape,
                                          const Range& range, int64_t place,
                                          const BackMatrices& m) {
  const auto at = [&](Map which) {
    return [&task, &range, which](int64_t p) { return at_map(task, range, p, which); };
  };
  const ColumnSoftmax of_keys{shape, task.statistics + range.which * 2 * shape.depth};
  const X* maps = as<X>(task.maps.data);
  load_rows(maps, at(kQuery), place, range.end, shape, m.query, 0.0F, RowSoftmax{shape});
  load_rows(maps, at(kKey), place, range.end, shape, m.key, 0.0F, of_keys);
  load_rows(maps, at(kValue), place, range.end, shape, m.value, 0.0F, Unchanged());
  load_rows(
      as<X>(task.d_mixed.data), [&](int64_t p) { return at_mixed(task, range, p); }, place,
      range.end, shape, m.gradient, 0.0F, Unchanged());
}

template <typename X>
__global__ void __launch_bounds__(kThreads)
    maps_back_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  const BackMatrices m = back_matrices(shape);
  const Range range = range_of(task, slices);
  load_contexts(task, shape, range, m);
  const auto at = [&](Map which) {
    return [&task, &range, which](int64_t p) { return at_map(task, range, p, which); };
  };
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    load_maps<X>(task, shape, range, place, m);
    __syncthreads();
    over_tiles(shape, [&](int p, int c) {
      Tile of_value{}, of_key{};
      add_product(m.key, p, m.d_context, c, shape.padded(), of_value);
      store_tile(of_value, as<X>(task.d_maps.data), at(kValue), place + p, range.end, c, shape);
      add_product(m.value, p, m.d_context_transposed, c, shape.padded(), of_key);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Four keys = m.key.four(p + i, c);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          of_key.at[i][j] = keys.at[j] * (of_key.at[i][j] - m.products[c + j]);
        }
      }
      store_tile(of_key, as<X>(task.d_maps.data), at(kKey), place + p, range.end, c, shape);
    });
    __syncthreads();
    // Values are read no more: the gradients of the queries' softmax take their place.
    over_tiles(shape, [&](int p, int c) {
      Tile tile{};
      add_product(m.gradient, p, m.context_transposed, c, shape.padded(), tile);
      store_shared(m.value, p, c, tile, task.scale);
    });
    __syncthreads();
    store_query_gradients<X>(task, shape, range, place, m.query, m.value);
    __syncthreads();
  }
}

template <typename X>
cudaError_t backward(const DeviceLinearAttention& task, cudaStream_t stream) {
  const Shape shape = shape_of<X>(task);
  const int64_t heads = task.frames * task.heads, slices = task.slices();
  if (const cudaError_t status =
          launch({heads * slices, kThreads, bytes_of(2 * kPlaces * shape.row), stream},
                 context_back_kernel<X>, task, shape, slices);
      status != cudaSuccess) {
    return status;
  }
  if (const cudaError_t status =
          launch({heads, kThreads, 0, stream}, join_gradients_kernel, task, shape.depth, slices);
      status != cudaSuccess) {
    return status;
  }
  return launch({heads * slices_of_result(task), kThreads, bytes_of(back_floats(shape)), stream},
                maps_back_kernel<X>, task, shape, slices_of_result(task));
}

}  // namespace
}  // namespace lf::linear_attention_tiles

namespace lf {

cudaError_t cuda_linear_attention_back(const DeviceLinearAttention& task, cudaStream_t stream) {
  return task.maps.bf16 ? linear_attention_tiles::backward<Bf16>(task, stream)
                        : linear_attention_tiles::backward<float>(task, stream);
}

}  // namespace lf
