// nearest_code() on a CPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/cpu/task.h"
#include "kernels/cpu/tile.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

constexpr int64_t kColumns = 48, kCodes = 256;  // of a tile of scores

struct Search {
  const float *rows, *codes, *squares;
  int64_t count, dim, size;
  int64_t* ids;
};

// Scores |c|^2 - 2 z c (|z|^2 changes no choice): codes are the left side, so that the best of them
// is found down the lanes.
struct Tile {
  static LF_INLINE void run(const Search* search, int64_t tile) {
    const Search& s = *search;
    const int64_t first = tile * kColumns, columns = std::min(kColumns, padded(s.count - first));
    Scratch scratch;
    auto* transposed = scratch.take<float>(s.dim * tile_row(kColumns));
    auto* scores = scratch.take<float>(kCodes * tile_row(kColumns));
    const int64_t row = tile_row(kColumns);
    TileMap map{};
    for (int64_t lane = 0; lane < kLanes; ++lane) map.lane_row[lane] = first + lane;
    map.lanes = map.stride = map.step_rows = kLanes;
    map.steps = columns / kLanes;
    map.end = s.count;
    gather(s.rows, false, s.dim, map, transposed, row);
    Lanes least[kColumns / kLanes];
    Ints best[kColumns / kLanes];
    for (int64_t c = 0; c < map.steps; ++c) {
      least[c] = all(__builtin_inff());
      best[c] = Ints{};
    }
    for (int64_t code = 0; code < s.size; code += kCodes) {
      const int64_t here = std::min(kCodes, s.size - code);
      multiply(Operands::kSingle, {s.codes + code * s.dim, s.dim}, {transposed, row},
               {here, columns, s.dim, scores, row, false});
      for (int64_t k = 0; k < here; ++k) {
        for (int64_t c = 0; c < map.steps; ++c) {
          const Lanes score = s.squares[code + k] - 2.0F * load(scores + k * row + c * kLanes);
          const Ints less = score < least[c];
          least[c] = less ? score : least[c];
          best[c] = less ? Ints{} + static_cast<int32_t>(code + k) : best[c];
        }
      }
    }
    for (int64_t i = 0; i < std::min(columns, s.count - first); ++i) {
      s.ids[first + i] = best[i / kLanes][i % kLanes];
    }
  }
};

}  // namespace

at::Tensor nearest_code(const at::Tensor& rows, const at::Tensor& codebook) {
  const at::Tensor z = plain_weight(rows), codes = plain_weight(codebook);
  const at::Tensor squares = codes.square().sum(1);
  at::Tensor ids = at::empty({z.size(0)}, at::kLong);
  const Search search{z.const_data_ptr<float>(),
                      codes.const_data_ptr<float>(),
                      squares.const_data_ptr<float>(),
                      z.size(0),
                      z.size(1),
                      codes.size(0),
                      ids.mutable_data_ptr<int64_t>()};
  LF_RECORD_WORK("nearest_code", 2 * z.numel() * codes.size(0));
  over_threads((z.size(0) + kColumns - 1) / kColumns, Operands::kSingle,
               [&](int64_t tile) { run_kernel<Tile>(&search, tile); });
  return ids;
}

}  // namespace lf::cpu
