// See attention_kernels.h: the backward pass, which computes the scores again. A block sums the
// gradients of bias and scales over its part of the sequences; the caller adds these partial sums
// in their order.
#include "cuda/attention_blocks.h"

namespace lf::attention_blocks {
namespace {

// Adds up the lanes' sums of a scale's gradient into those of the warp.
__device__ __forceinline__ void add_to_warp(const Block& block, Matrix which, Four sums, int c) {
  const Layout& layout = block.layout;
  __syncwarp();
  float* warp_sums = block.shared + layout.scales_at() +
                     (threadIdx.x / kWarp * 2 + which) * 4 * fours(layout.depth);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    for (int offset = layout.lanes; offset < kWarp; offset *= 2) {
      sums.at[e] += __shfl_xor_sync(0xffffffffU, sums.at[e], offset);
    }
    if (static_cast<int>(threadIdx.x) % kWarp < layout.lanes && e < layout.depth - c) {
      warp_sums[c + e] += sums.at[e];
    }
  }
}

// From the gradients of normed and rotated queries or keys, in matrix `gradients`, to those of the
// maps; adds the gradients of the scales to the warp's.
template <typename X>
__device__ void store_gradients(const Block& block, int units, Matrix which, Matrix gradients,
                                const float* scale) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  const int c = 4 * lane, count = layout.depth - c;
  Four scales{}, sums{};
  if (scale != nullptr) scales = load_four(scale + c, count, false);
  for (int r = threadIdx.x / layout.lanes; r < units * layout.tokens; r += groups) {
    const int unit = layout.by_tokens.quotient(r), token = r - unit * layout.tokens;
    const int64_t at = block.at_map(unit, token, which) + c;
    Four gradient{}, normal{};
    if (count > 0) gradient = block.matrix(unit, gradients).four(token, c);
    rotate(gradient, task, token, lane, true);
    if (scale != nullptr) {
      if (count > 0) normal = load_four(as<X>(task.maps.data) + at, count, layout.aligned);
      const float square = dot(normal, normal, layout.lanes, mask);
      const float factor = over_length(square);
      multiply(normal, factor);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.at[e] = fmaf(gradient.at[e], normal.at[e], sums.at[e]);
      multiply(gradient, scales);
      float product = dot(gradient, normal, layout.lanes, mask);
      if (square < 1e-24F) product = 0;  // divided by a constant then
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        gradient.at[e] = fmaf(-product, normal.at[e], gradient.at[e]) * factor;
      }
    }
    store_four(as<X>(task.d_maps.data) + at, gradient, count, layout.aligned);
  }
  if (scale != nullptr) add_to_warp(block, which, sums, c);
}

// Adds the score gradients of the current sequences to the gradient of the bias.
__device__ __forceinline__ void add_to_bias(const Block& block, int units) {
  const Layout& layout = block.layout;
  const int tokens = layout.tokens;
  float* bias = block.shared + layout.bias_at();
  for (int i = threadIdx.x; i < tokens * tokens; i += layout.threads) {
    const int r = layout.by_tokens.quotient(i), at = r * layout.score_row + i - r * tokens;
    float sum = bias[i];
    for (int unit = 0; unit < units; ++unit) sum += block.scores(unit, kScoreGradient).data[at];
    bias[i] = sum;
  }
}

// Leaves the block's partial sums to the caller.
__device__ void store_partial_sums(const Block& block) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int64_t part = block.chunk * task.heads + block.head;
  const int square = layout.tokens * layout.tokens;
  if (task.bias_sums != nullptr) {
    for (int i = threadIdx.x; i < square; i += layout.threads) {
      task.bias_sums[part * square + i] = block.shared[layout.bias_at() + i];
    }
  }
  if (task.scale_sums == nullptr) return;
  const int padded = 4 * fours(layout.depth);
  for (int i = threadIdx.x; i < 2 * layout.depth; i += layout.threads) {
    const int which = i / layout.depth, c = i % layout.depth;
    float sum = 0;
    for (int warp = 0; warp < layout.threads / kWarp; ++warp) {
      sum += block.shared[layout.scales_at() + (warp * 2 + which) * padded + c];
    }
    task.scale_sums[part * 2 * layout.depth + i] = sum;
  }
}

template <typename X, int kEach>
__global__ void __launch_bounds__(kMostThreads)
    attention_back_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  __shared__ int64_t first_rows[kMostUnits];
  float* shared = shared_memory();
  const Block block = block_of(task, layout, chunks, shared, first_rows);
  for (int i = layout.bias_at() + threadIdx.x; i < layout.size(); i += layout.threads) {
    shared[i] = 0;
  }
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units = block.take(sequence);
    load_maps<X>(block, units);
    load_rows(block, units, kResultGradient, as<X>(task.d_mixed.data),
              [&](int unit, int token) { return block.at_mixed(unit, token); },
              {nullptr, false, 1.0F});
    __syncthreads();
    score(block, units, kQuery, kKey, kProbabilities);
    score(block, units, kResultGradient, kValue, kScoreGradient);
    __syncthreads();
    softmax<kEach, /*kBack=*/true>(block, sequence, units);
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile value{}, query{};
      add_product_at(block.scores(unit, kProbabilities), token, block.matrix(unit, kResultGradient),
                     c, layout.padded, value);
      store_tile(block, value, as<X>(task.d_maps.data) + block.at_map(unit, token, kValue),
                 3 * block.wide(), token, c);
      add_product(block.scores(unit, kScoreGradient), token, block.matrix(unit, kKey), c,
                  layout.padded, query);
      store_shared(block.matrix(unit, kQueryGradient), token, c, query, task.scale);
    });
    if (task.bias_sums != nullptr) add_to_bias(block, units);
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile key{};
      add_product_at(block.scores(unit, kScoreGradient), token, block.matrix(unit, kQuery), c,
                     layout.padded, key);
      store_shared(block.matrix(unit, kKeyGradient), token, c, key, 1.0F);
    });
    __syncthreads();
    store_gradients<X>(block, units, kQuery, kQueryGradient, task.query_scale);
    store_gradients<X>(block, units, kKey, kKeyGradient, task.key_scale);
    __syncthreads();
  }
  store_partial_sums(block);
}

template <typename X>
cudaError_t backward(const DeviceAttention& task, cudaStream_t stream) {
  const bool aligned = task.head_width % 4 == 0 && aligned_to_four<X>(task.maps.data) &&
                       aligned_to_four<X>(task.d_mixed.data) &&
                       aligned_to_four<X>(task.d_maps.data);
  const Layout layout = layout_of(task, true, aligned);
  return dispatch_tokens(task.tokens, [&]<int kEach>() {
    return launch({task.chunks() * task.heads, layout.threads, bytes_of(layout), stream},
                  attention_back_kernel<X, kEach>, task, layout, task.chunks());
  });
}

}  // namespace
}  // namespace lf::attention_blocks

namespace lf {

cudaError_t cuda_attention_back(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.bf16 ? attention_blocks::backward<Bf16>(task, stream)
                        : attention_blocks::backward<float>(task, stream);
}

}  // namespace lf
