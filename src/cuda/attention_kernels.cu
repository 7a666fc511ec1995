// See attention_kernels.h: the forward pass. Queries, keys and values are read once, where they lie
// among the rows (time is not made contiguous first); scores and their softmax never leave the
// chip. A block has one head and a part of the sequences.
#include "cuda/attention_blocks.h"

namespace lf::attention_blocks {
namespace {

template <typename X, int kEach>
__global__ void __launch_bounds__(kMostThreads)
    attention_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  __shared__ int64_t first_rows[kMostUnits];
  const Block block = block_of(task, layout, chunks, shared_memory(), first_rows);
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units = block.take(sequence);
    load_maps<X>(block, units);
    __syncthreads();
    score(block, units, kQuery, kKey, kProbabilities);
    __syncthreads();
    softmax<kEach, /*kBack=*/false>(block, sequence, units);
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile tile{};
      add_product(block.scores(unit, kProbabilities), token, block.matrix(unit, kValue), c,
                  layout.padded, tile);
      store_tile(block, tile, as<X>(task.mixed.data) + block.at_mixed(unit, token), block.wide(),
                 token, c);
    });
    __syncthreads();
  }
}

bool fits(const DeviceAttention& task) {
  if (task.tokens > kSoftmaxLanes * kSoftmaxMost || task.head_width > 4 * kWarp) return false;
  constexpr int64_t kFirstRows = kMostUnits * sizeof(int64_t);
  return bytes_of(layout_of(task, true, true)) + kFirstRows <= most_shared_memory();
}

template <typename X>
cudaError_t forward(const DeviceAttention& task, cudaStream_t stream) {
  const bool aligned = task.head_width % 4 == 0 && aligned_to_four<X>(task.maps.data) &&
                       aligned_to_four<X>(task.mixed.data);
  const Layout layout = layout_of(task, false, aligned);
  constexpr int64_t kBlocks = 8448;
  const int64_t chunks =
      std::max<int64_t>(1, std::min(parts_of(task.sequences(), layout.pack), kBlocks / task.heads));
  return dispatch_tokens(task.tokens, [&]<int kEach>() {
    return launch({chunks * task.heads, layout.threads, bytes_of(layout), stream},
                  attention_kernel<X, kEach>, task, layout, chunks);
  });
}

}  // namespace
}  // namespace lf::attention_blocks

namespace lf {

bool cuda_takes_attention(const DeviceAttention& task) { return attention_blocks::fits(task); }

cudaError_t cuda_attention(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.bf16 ? attention_blocks::forward<Bf16>(task, stream)
                        : attention_blocks::forward<float>(task, stream);
}

}  // namespace lf
