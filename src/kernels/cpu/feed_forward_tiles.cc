#include "kernels/cpu/feed_forward_tiles.h"

#include <algorithm>

namespace lf {
namespace {

// Rows of a tile: its hidden features fill about half of a core's L2 cache.
constexpr int64_t kColumns = 96;

LF_INLINE TileMap map_of(const FeedForwardTask& task, int64_t tile) {
  TileMap map{};
  const int64_t first = tile * task.columns();
  for (int64_t lane = 0; lane < kLanes; ++lane) map.lane_row[lane] = first + lane;
  map.lanes = map.stride = map.step_rows = kLanes;
  map.end = task.rows;
  map.steps = std::min(task.columns(), padded(task.rows - first)) / kLanes;
  return map;
}

LF_INLINE void activate(const FeedForwardTask& task, const float* mapped, int64_t row,
                        int64_t columns, float* out) {
  for (int64_t h = 0; h < task.hidden; ++h) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const float* first = mapped + h * row + c;
      store(out + h * row + c, task.gated
                                   ? load(first) * gelu(load(first + task.hidden * row)).value
                                   : gelu(load(first)).value);
    }
  }
}

// `gradient` is with respect to activate()'s output; `out` receives the gradient of `mapped`,
// `active` the output again.
LF_INLINE void activate_back(const FeedForwardTask& task, const float* mapped,
                             const float* gradient, int64_t row, int64_t columns, float* active,
                             float* out) {
  for (int64_t h = 0; h < task.hidden; ++h) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t at = h * row + c, gate = at + task.hidden * row;
      const Lanes given = load(gradient + at), first = load(mapped + at);
      if (task.gated) {
        const Gelu curve = gelu(load(mapped + gate));
        store(active + at, first * curve.value);
        store(out + at, given * curve.value);
        store(out + gate, given * first * curve.derivative);
      } else {
        const Gelu curve = gelu(first);
        store(active + at, curve.value);
        store(out + at, given * curve.derivative);
      }
    }
  }
}

LF_INLINE void map_in(const FeedForwardTask& task, const Right& normal, int64_t columns,
                      float* mapped, int64_t row) {
  if (task.in_bias != nullptr) fill_rows(task.in_bias, task.maps(), columns, mapped, row);
  multiply(task.operands, task.in, normal,
           {task.maps(), columns, task.width, mapped, row, task.in_bias != nullptr});
}

struct Tile {
  static LF_INLINE void run(const FeedForwardTask* given, int64_t tile) {
    const FeedForwardTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(task.columns());
    auto* normal = scratch.take<float>(task.width * row);
    auto* spread = scratch.take<float>(columns);
    gather(task.x, task.bf16_rows, task.width, map, normal, row);
    normalise(normal, row, task.width, columns, task.norm.epsilon, spread);
    scale_features(normal, row, task.width, columns, task.norm, normal);
    float* mapped = task.kept != nullptr ? task.kept + tile * task.maps() * row
                                         : scratch.take<float>(task.maps() * row);
    const Sides sides{&scratch, task.operands};
    map_in(task, sides.right(normal, row, task.width, columns), columns, mapped, row);
    auto* active = scratch.take<float>(task.hidden * row);
    activate(task, mapped, row, columns, active);
    multiply(task.operands, task.out, sides.right(active, row, task.hidden, columns),
             {task.width, columns, task.hidden, normal, row, false});
    scatter(normal, row, task.width, map, task.x, task.out_bias, task.y, task.bf16_rows);
  }
};

struct TileBack {
  static LF_INLINE void run(const FeedForwardTask* given, int64_t tile, float* sums, bool add) {
    const FeedForwardTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(task.columns());
    const int64_t width = task.width, wide = padded(width), hidden = task.hidden;
    const Sides sides{&scratch, task.operands};
    auto* normal = scratch.take<float>(width * row);
    auto* scaled = scratch.take<float>(width * row);
    auto* spread = scratch.take<float>(columns);
    gather(task.x, task.bf16_rows, width, map, normal, row);
    normalise(normal, row, width, columns, task.norm.epsilon, spread);
    scale_features(normal, row, width, columns, task.norm, scaled);
    auto* given_gradient = scratch.take<float>(width * row);
    gather(task.dy, task.bf16_rows, width, map, given_gradient, row);

    const float* mapped = task.kept != nullptr ? task.kept + tile * task.maps() * row : nullptr;
    if (mapped == nullptr) {
      auto* again = scratch.take<float>(task.maps() * row);
      map_in(task, sides.right(scaled, row, width, columns), columns, again, row);
      mapped = again;
    }
    auto* active_gradient = scratch.take<float>(hidden * row);
    multiply(task.operands, task.out_back, sides.right(given_gradient, row, width, columns),
             {hidden, columns, width, active_gradient, row, false});
    auto* active = scratch.take<float>(hidden * row);
    auto* gradient = scratch.take<float>(task.maps() * row);
    activate_back(task, mapped, active_gradient, row, columns, active, gradient);

    multiply(task.operands, sides.left(gradient, row, task.maps(), columns),
             sides.transposed_right(scaled, row, width, columns),
             {task.maps(), wide, columns, sums + task.in_sums(), wide, add});
    multiply(task.operands, sides.left(active, row, hidden, columns),
             sides.transposed_right(given_gradient, row, width, columns),
             {hidden, wide, columns, sums + task.out_sums(), wide, add});
    if (task.in_bias != nullptr) {
      add_sums(gradient, row, task.maps(), columns, sums + task.in_bias_sums());
    }
    if (task.out_bias != nullptr) {
      add_sums(given_gradient, row, width, columns, sums + task.out_bias_sums());
    }
    multiply(task.operands, task.in_back, sides.right(gradient, row, task.maps(), columns),
             {width, columns, task.maps(), scaled, row, false});
    normalise_back(normal, scaled, row, width, columns, task.norm.weight, spread,
                   sums + task.norm_sums(), sums + task.norm_bias_sums());
    scatter(scaled, row, width, map, task.dy, nullptr, task.dx, task.bf16_rows);
  }
};

}  // namespace

int64_t FeedForwardTask::columns() const {
  const int64_t most = (rows + kColumns - 1) / kColumns;
  const int64_t even = most + most % 2;  // so that two threads have as much to do
  return std::max(kLanes, padded((rows + even - 1) / std::max<int64_t>(even, 1)));
}
int64_t FeedForwardTask::tiles() const { return (rows + columns() - 1) / columns(); }
int64_t FeedForwardTask::chunks() const {
  return std::clamp<int64_t>(tiles() / 4, std::min<int64_t>(tiles(), 2), 32);
}

void feed_forward_tile(const FeedForwardTask& task, int64_t tile) { run_kernel<Tile>(&task, tile); }

void feed_forward_chunk_back(const FeedForwardTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.in_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.tiles() / task.chunks();
  const int64_t end = (chunk + 1) * task.tiles() / task.chunks();
  for (int64_t tile = begin; tile < end; ++tile) {
    run_kernel<TileBack>(&task, tile, sums, tile > begin);
  }
}

}  // namespace lf
