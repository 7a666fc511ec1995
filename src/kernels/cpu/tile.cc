#include "kernels/cpu/tile.h"

namespace lf {
namespace {

template <typename X>
struct Gather {
  static LF_INLINE void run(const void* from, int64_t width, const TileMap* given, float* out,
                            int64_t row) {
    const auto* x = static_cast<const X*>(from);
    const TileMap& map = *given;
    clear_columns(out, row, width, map.used(), map.columns());
    for (int64_t step = 0; step < map.steps; ++step) {  // ascending: see lane_attention.h
      for (int64_t c = 0; c < width; c += kLanes) {
        const int64_t count = std::min(kLanes, width - c);
        Lanes part[kLanes];
#pragma GCC unroll 1
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          part[lane] =
              map.holds(step, lane) ? load(x + map.row(step, lane) * width + c, count) : Lanes{};
        }
        transpose(part);
        for (int64_t e = 0; e < count; ++e) store(out + (c + e) * row + step * map.stride, part[e]);
      }
    }
  }
};

template <typename X>
struct Scatter {
  static LF_INLINE void run(const float* tile, int64_t row, int64_t width, const TileMap* given,
                            const void* added, const float* bias, void* to) {
    const auto* residual = static_cast<const X*>(added);
    auto* y = static_cast<X*>(to);
    const TileMap& map = *given;
    for (int64_t step = 0; step < map.steps; ++step) {
      for (int64_t c = 0; c < width; c += kLanes) {
        const int64_t count = std::min(kLanes, width - c);
        Lanes part[kLanes];
        for (int64_t e = 0; e < kLanes; ++e) {
          part[e] = e < count ? load(tile + (c + e) * row + step * map.stride) : Lanes{};
        }
        transpose(part);
        const Lanes shift = bias != nullptr ? load(bias + c, count) : Lanes{};
#pragma GCC unroll 1
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          if (!map.holds(step, lane)) continue;
          const int64_t at = map.row(step, lane) * width + c;
          Lanes value = part[lane] + shift;
          if (residual != nullptr) value += load(residual + at, count);
          store(y + at, value, count);
        }
      }
    }
  }
};

struct TransposeTile {
  static LF_INLINE void run(const float* tile, int64_t row, int64_t width, int64_t columns,
                            float* out) {
    const int64_t wide = padded(width);
    for (int64_t column = 0; column < columns; column += kLanes) {
      for (int64_t c = 0; c < width; c += kLanes) {
        Lanes part[kLanes];
        for (int64_t e = 0; e < kLanes; ++e) {
          part[e] = c + e < width ? load(tile + (c + e) * row + column) : Lanes{};
        }
        transpose(part);
        for (int64_t lane = 0; lane < kLanes; ++lane)
          store(out + (column + lane) * wide + c, part[lane]);
      }
    }
  }
};

}  // namespace

void gather(const void* x, bool bf16, int64_t width, const TileMap& map, float* out, int64_t row) {
  run_rows<Gather>(bf16, x, width, &map, out, row);
}

void scatter(const float* tile, int64_t row, int64_t width, const TileMap& map,
             const void* residual, const float* bias, void* y, bool bf16) {
  run_rows<Scatter>(bf16, tile, row, width, &map, residual, bias, y);
}

void transpose_tile(const float* tile, int64_t row, int64_t width, int64_t columns, float* out) {
  run_kernel<TransposeTile>(tile, row, width, columns, out);
}

}  // namespace lf
