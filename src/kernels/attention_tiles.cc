#include "kernels/attention_tiles.h"

#include <algorithm>

#include "kernels/lane_attention.h"

namespace lf {
namespace {

// As many lanes in each tile, as far as that goes: threads then have as much to do.
LF_INLINE TileMap map_of(const AttentionTask& task, int64_t tile) {
  TileMap map{};
  const int64_t tiles = task.tiles(), all = task.sequences();
  const int64_t first = tile * all / tiles;
  map.lanes = (tile + 1) * all / tiles - first;
  map.stride = task.stride();
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t sequence = std::min(first + lane, all - 1);
    map.lane_row[lane] = sequence / task.inner * task.tokens * task.inner + sequence % task.inner;
  }
  map.steps = task.tokens;
  map.step_rows = task.inner;
  map.end = task.sequences() * task.tokens;
  return map;
}

// The mask of each lane's outer index, [query][key][lane].
LF_INLINE const float* lane_mask(const AttentionTask& task, const TileMap& map, Scratch& scratch) {
  if (task.mask == nullptr) return nullptr;
  const int64_t pairs = task.tokens * task.tokens;
  auto* out = scratch.take<float>(pairs * kLanes);
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const float* mine = task.mask + map.lane_row[lane] / (task.tokens * task.inner) * pairs;
    for (int64_t pair = 0; pair < pairs; ++pair) out[pair * kLanes + lane] = mine[pair];
  }
  return out;
}

// Rows h * head_width ... of a weight whose rows are features of the heads.
LF_INLINE Left head_rows(const Left& weight, const AttentionTask& task, int64_t head) {
  Left rows = weight;
  rows.data += head * task.head_width * weight.row;
  if (weight.half != nullptr) rows.half += half_left_size(head * task.head_width, task.width);
  return rows;
}

LF_INLINE LaneShape shape_of(const AttentionTask& task, const TileMap& map) {
  LaneShape shape{task.tokens, task.head_width, tile_row(map.columns()), map.stride, {}};
  for (int64_t lane = 0; lane < kLanes; ++lane) shape.mine[lane] = lane < map.lanes ? -1 : 0;
  return shape;
}

// Memory for one head of a tile.
struct Head {
  float *query, *key, *value;        // as mapped from the rows
  float *turned_query, *turned_key;  // as they are compared; the same where nothing is done to them
  float *query_lengths, *key_lengths;
  float *weights, *mixed;
  float *spare, *second_spare;  // matrices
};

struct Forward {
  const AttentionTask& task;
  LaneShape shape;
  const float* mask;

  LF_INLINE LaneShape value_shape() const {
    LaneShape values = shape;
    values.head_width = task.value_width();
    return values;
  }
  LF_INLINE bool turns() const { return task.query_scale != nullptr || task.rotary != nullptr; }

  LF_INLINE Head memory(Scratch& scratch) const {
    const int64_t matrix = task.head_width * shape.row, lengths = task.tokens * kLanes;
    Head head{};
    head.weights = scratch.take<float>(task.tokens * lengths);
    if (!turns()) return head;
    head.turned_query = scratch.take<float>(matrix);
    head.turned_key = scratch.take<float>(matrix);
    head.query_lengths = scratch.take<float>(lengths);
    head.key_lengths = scratch.take<float>(lengths);
    head.spare = scratch.take<float>(matrix);
    head.second_spare = scratch.take<float>(matrix);
    return head;
  }

  // The queries, keys and values of head h from the tile's normalised rows into three matrices of
  // the whole tile.
  LF_INLINE void map_rows(const Right& rows, int64_t h, float* query, float* key,
                          float* value) const {
    map_one(rows, h, task.query, task.query_bias, query);
    const float* bias = task.key_value_bias;
    map_one(rows, h, task.key, bias, key);
    if (task.plain_values) return;
    map_one(rows, h, task.value, bias != nullptr ? bias + task.wide() : nullptr, value);
  }
  LF_INLINE void map_one(const Right& rows, int64_t h, const Left& weight, const float* bias,
                         float* out) const {
    const int64_t columns = task.columns(), width = task.head_width;
    if (bias != nullptr) fill_rows(bias + h * width, width, columns, out, shape.row);
    multiply(task.operands, head_rows(weight, task, h), rows,
             {width, columns, task.width, out, shape.row, bias != nullptr});
  }

  LF_INLINE float* mapped(int64_t tile, Scratch& scratch) const {
    const int64_t rows = task.maps() * task.wide();
    return task.kept != nullptr ? task.kept + tile * rows * shape.row
                                : scratch.take<float>(rows / task.heads * shape.row);
  }

  // A head's place in what all heads were mapped to: kept for all of them, or made for one at a
  // time. `normal`: the tile's normed rows.
  LF_INLINE void choose(int64_t h, float* mapped, float* mixed, float* normal, Head& head) const {
    const int64_t matrix = task.head_width * shape.row;
    const int64_t apart = task.kept != nullptr ? task.wide() * shape.row : matrix;
    head.query = mapped + (task.kept != nullptr ? h * matrix : 0);
    head.key = head.query + apart;
    head.value = task.plain_values ? normal : head.key + apart;
    head.mixed = mixed + h * task.value_width() * shape.row;
  }

  // From head.query, key and value to head.weights and head.mixed.
  LF_INLINE void attend(int64_t h, Head& head) const {
    if (turns()) {
      turn_one(head.query, task.query_scale, head.query_lengths, head.spare, head.turned_query);
      turn_one(head.key, task.key_scale, head.key_lengths, head.spare, head.turned_key);
    } else {
      head.turned_query = head.query;
      head.turned_key = head.key;
    }
    dots(head.turned_query, head.turned_key, shape, head.weights);
    const int64_t pairs = task.tokens * task.tokens;
    soften(head.weights, task.tokens, task.scale,
           task.bias != nullptr ? task.bias + h * pairs : nullptr, mask);
    combine<false>(head.weights, head.value, value_shape(), head.mixed);
  }
  LF_INLINE void turn_one(const float* x, const float* scale, float* lengths, float* spare,
                          float* out) const {
    const bool rotary = task.rotary != nullptr;
    if (scale != nullptr) direct(x, shape, scale, lengths, rotary ? spare : out);
    if (rotary) rotate(scale != nullptr ? spare : x, shape, task.rotary, task.pairs, false, out);
  }
};

template <typename X>
struct Tile {
  static LF_INLINE void run(const AttentionTask* given, int64_t tile) {
    const AttentionTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(columns), all = task.mixed();
    const Sides sides{&scratch, task.operands};
    auto* normal = scratch.take<float>(task.width * row);
    auto* spread = scratch.take<float>(columns);
    const auto* x = static_cast<const X*>(task.x);
    gather(x, task.width, map, normal, row);
    if (task.norm.weight != nullptr) {
      normalise(normal, row, task.width, columns, task.norm.epsilon, spread);
      scale_features(normal, row, task.width, columns, task.norm, normal);
    }
    const Right rows = sides.right(normal, row, task.width, columns);

    const Forward forward{task, shape_of(task, map), lane_mask(task, map, scratch)};
    Head head = forward.memory(scratch);
    float* mapped = forward.mapped(tile, scratch);
    auto* mixed = scratch.take<float>(all * row);
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.choose(h, mapped, mixed, normal, head);
      forward.map_rows(rows, h, head.query, head.key, head.value);
      forward.attend(h, head);
    }
    clear_columns(mixed, row, all, map.used(), columns);
    multiply(task.operands, task.out, sides.right(mixed, row, all, columns),
             {task.width, columns, all, normal, row, false});
    const auto* residual = task.residual != nullptr ? static_cast<const X*>(task.residual) : x;
    scatter(normal, row, task.width, map, residual, task.out_bias, static_cast<X*>(task.y));
  }
};

template <typename X>
struct TileBack {
  static LF_INLINE void run(const AttentionTask* given, int64_t tile, float* sums, bool add) {
    const AttentionTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(columns), wide = task.wide();
    const int64_t width = task.width, all = task.mixed();
    const Sides sides{&scratch, task.operands};
    auto* normal = scratch.take<float>(width * row);
    const bool norm = task.norm.weight != nullptr;
    auto* scaled = norm ? scratch.take<float>(width * row) : normal;
    auto* spread = scratch.take<float>(columns);
    gather(static_cast<const X*>(task.x), width, map, normal, row);
    if (norm) {
      normalise(normal, row, width, columns, task.norm.epsilon, spread);
      scale_features(normal, row, width, columns, task.norm, scaled);
    }
    auto* slope = scratch.take<float>(width * row);
    const auto* dy = static_cast<const X*>(task.dy);
    gather(dy, width, map, slope, row);
    const bool keep = task.kept != nullptr;
    const Right rows = keep ? Right{} : sides.right(scaled, row, width, columns);
    auto* mixed_slope = scratch.take<float>(all * row);
    multiply(task.operands, task.out_back, sides.right(slope, row, width, columns),
             {all, columns, width, mixed_slope, row, false});

    const Forward forward{task, shape_of(task, map), lane_mask(task, map, scratch)};
    Head head = forward.memory(scratch);
    float* mapped = forward.mapped(tile, scratch);
    auto* mixed = scratch.take<float>(all * row);
    auto* weight_slopes = scratch.take<float>(task.tokens * task.tokens * kLanes);
    const int64_t maps = task.maps() * wide, matrix = task.head_width * row;
    auto* map_slopes = scratch.take<float>(maps * row);
    const int64_t values = task.plain_values ? width * row : 0;
    auto* value_slope = scratch.take<float>(values);   // of one head
    auto* value_slopes = scratch.take<float>(values);  // of all
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.choose(h, mapped, mixed, scaled, head);
      if (!keep) forward.map_rows(rows, h, head.query, head.key, head.value);
      forward.attend(h, head);
      float* query = map_slopes + h * matrix;
      back(forward, head, h, mixed_slope + h * task.value_width() * row, weight_slopes, query,
           task.plain_values ? value_slope : query + 2 * wide * row, sums);
      for (int64_t i = 0; i < values; i += kLanes) {
        const Lanes one = load(value_slope + i);
        store(value_slopes + i, h == 0 ? one : load(value_slopes + i) + one);
      }
    }

    clear_columns(mixed, row, all, map.used(), columns);
    clear_columns(map_slopes, row, maps, map.used(), columns);
    if (task.plain_values) clear_columns(value_slopes, row, width, map.used(), columns);
    weights_back(task, scratch, columns, slope, scaled, mixed, map_slopes, sums, add);
    const Left* weights[] = {&task.query_back, &task.key_back, &task.value_back};
    float* whole = task.plain_values ? value_slopes : scaled;  // the slope of `scaled`
    for (int64_t i = 0; i < task.maps(); ++i) {
      multiply(task.operands, *weights[i],
               sides.right(map_slopes + i * wide * row, row, wide, columns),
               {width, columns, wide, whole, row, task.plain_values || i > 0});
    }
    if (norm) {
      normalise_back(normal, whole, row, width, columns, task.norm.weight, spread,
                     sums + task.norm_sums(), sums + task.norm_bias_sums());
    }
    const X* residual = task.residual == nullptr ? dy : nullptr;
    scatter(whole, row, width, map, residual, nullptr, static_cast<X*>(task.dx));
  }

  // The weights' own slopes: from that of y and of what was mapped, with what they were mapped
  // from.
  static LF_INLINE void weights_back(const AttentionTask& task, Scratch& scratch, int64_t columns,
                                     const float* slope, const float* scaled, const float* mixed,
                                     const float* map_slopes, float* sums, bool add) {
    const Sides sides{&scratch, task.operands};
    const int64_t row = tile_row(columns), width = task.width, lined = padded(width),
                  all = task.mixed(), maps = task.maps() * task.wide();
    auto* turned = scratch.take<float>(columns * lined);
    turn(slope, row, width, columns, turned);
    multiply(task.operands, sides.left(mixed, row, all, columns),
             sides.right(turned, lined, columns, lined),
             {all, lined, columns, sums + task.out_sums(), lined, add});
    turn(scaled, row, width, columns, turned);
    multiply(task.operands, sides.left(map_slopes, row, maps, columns),
             sides.right(turned, lined, columns, lined),
             {maps, lined, columns, sums + task.map_sums(), lined, add});
    if (task.query_bias != nullptr || task.key_value_bias != nullptr) {
      add_sums(map_slopes, row, maps, columns, sums + task.map_bias_sums());
    }
    if (task.out_bias != nullptr) add_sums(slope, row, width, columns, sums + task.out_bias_sums());
  }

  // The slopes of one head's queries, keys and values from that of what it mixed.
  static LF_INLINE void back(const Forward& forward, const Head& head, int64_t h,
                             const float* mixed, float* weight_slopes, float* query, float* value,
                             float* sums) {
    const AttentionTask& task = forward.task;
    const LaneShape &shape = forward.shape, values = forward.value_shape();
    float* key = query + task.wide() * shape.row;
    combine<true>(head.weights, mixed, values, value);
    dots(mixed, head.value, values, weight_slopes);
    float* bias =
        task.bias_gradient ? sums + task.bias_sums() + h * task.tokens * task.tokens : nullptr;
    soften_back(head.weights, weight_slopes, shape, task.scale, bias);
    if (!forward.turns()) {
      combine<false>(weight_slopes, head.turned_key, shape, query);
      combine<true>(weight_slopes, head.turned_query, shape, key);
      return;
    }
    combine<false>(weight_slopes, head.turned_key, shape, head.spare);
    turn_back(forward, head, head.spare, head.query, task.query_scale, head.query_lengths,
              sums + task.query_scale_sums(), query);
    combine<true>(weight_slopes, head.turned_query, shape, head.spare);
    turn_back(forward, head, head.spare, head.key, task.key_scale, head.key_lengths,
              sums + task.key_scale_sums(), key);
  }

  // The slope of what turn_one() gave in `slope`, that of `x` to `out`.
  static LF_INLINE void turn_back(const Forward& forward, const Head& head, const float* slope,
                                  const float* x, const float* scale, const float* lengths,
                                  float* scale_sums, float* out) {
    const AttentionTask& task = forward.task;
    const bool rotary = task.rotary != nullptr;
    float* between = scale != nullptr ? head.second_spare : out;
    if (rotary) rotate(slope, forward.shape, task.rotary, task.pairs, true, between);
    if (scale != nullptr) {
      direct_back(x, rotary ? between : slope, forward.shape, scale, lengths, scale_sums, out);
    }
  }
};

}  // namespace

int64_t AttentionTask::chunks() const {
  return std::clamp<int64_t>(tiles() / 4, std::min<int64_t>(tiles(), 2), 32);
}

void attention_tile(const AttentionTask& task, int64_t tile) {
  if (task.half_rows) return run_kernel<Tile<Half>>(&task, tile);
  run_kernel<Tile<float>>(&task, tile);
}

void attention_chunk_back(const AttentionTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.map_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.tiles() / task.chunks();
  const int64_t end = (chunk + 1) * task.tiles() / task.chunks();
  for (int64_t tile = begin; tile < end; ++tile) {
    if (task.half_rows) {
      run_kernel<TileBack<Half>>(&task, tile, sums, tile > begin);
    } else {
      run_kernel<TileBack<float>>(&task, tile, sums, tile > begin);
    }
  }
}

}  // namespace lf
