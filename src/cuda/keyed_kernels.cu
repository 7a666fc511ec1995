// See keyed_kernels.h. The arithmetic is that of base/random_lanes.h, which the CPU's loops share;
// this file assigns blocks of Philox to threads.
#include <algorithm>

#include "base/random_lanes.h"
#include "cuda/keyed_kernels.h"

namespace lf {
namespace {

constexpr uint32_t kChunk = 4 * kBlocksTogether;  // words

// One thread for each block of four words. Neighbouring threads write neighbouring addresses:
// words w of the 16 blocks of a chunk are contiguous.
template <bool kNormal>
__global__ void keyed_kernel(KeyedNumbers wanted, int64_t blocks_a_row, float* __restrict__ out) {
  const int64_t all = wanted.clips * blocks_a_row;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t base = wanted.first + (wanted.position != nullptr ? *wanted.position : 0);
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < all;
       at += stride) {
    const int64_t clip = at / blocks_a_row;
    const auto block = static_cast<uint32_t>(at % blocks_a_row);
    const auto position = static_cast<uint64_t>(base + clip);
    uint32_t words[4] = {block, static_cast<uint32_t>(position),
                         static_cast<uint32_t>(position >> 32), wanted.layer};
    philox_block(wanted.key0, wanted.key1, words);
    float values[4];
    if (kNormal) {
      box_muller(words[0], words[1], &values[0], &values[1]);
      box_muller(words[2], words[3], &values[2], &values[3]);
    } else {
      for (int w = 0; w < 4; ++w) values[w] = unit_interval(words[w]);
    }
    const int64_t first =
        static_cast<int64_t>(block / kBlocksTogether) * kChunk + block % kBlocksTogether;
    float* row = out + clip * wanted.row;
    for (int w = 0; w < 4; ++w) {
      const int64_t element = first + w * static_cast<int64_t>(kBlocksTogether);
      if (element < wanted.row) row[element] = values[w];
    }
  }
}

template <bool kNormal>
cudaError_t launch(const KeyedNumbers& wanted, float* out, cudaStream_t stream) {
  if (wanted.clips < 0 || wanted.row < 0) return cudaErrorInvalidValue;
  if (wanted.clips == 0 || wanted.row == 0) return cudaSuccess;
  const int64_t chunks = (wanted.row + kChunk - 1) / kChunk,
                blocks_a_row = chunks * kBlocksTogether;
  // A block's number is one word of Philox's counter.
  if (blocks_a_row > int64_t{UINT32_MAX}) return cudaErrorInvalidValue;
  constexpr int kThreads = 256;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks =
      std::min((wanted.clips * blocks_a_row + kThreads - 1) / kThreads, kMostBlocks);
  keyed_kernel<kNormal>
      <<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(wanted, blocks_a_row, out);
  return cudaGetLastError();
}

}  // namespace

cudaError_t cuda_keyed_uniform(const KeyedNumbers& wanted, float* out, cudaStream_t stream) {
  return launch<false>(wanted, out, stream);
}

cudaError_t cuda_keyed_normal(const KeyedNumbers& wanted, float* out, cudaStream_t stream) {
  return launch<true>(wanted, out, stream);
}

}  // namespace lf
