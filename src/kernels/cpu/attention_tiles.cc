#include "kernels/cpu/attention_tiles.h"

#include <algorithm>

#include "kernels/cpu/lane_attention.h"

namespace lf {
namespace {

// Equal numbers of lanes per tile where possible, so that threads have equal work.
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

// Prefetches the rows of the next tile, which are too far apart for the hardware prefetcher.
LF_INLINE void fetch_next(const AttentionTask& task, int64_t tile, const void* rows) {
  if (tile + 1 == task.tiles()) return;
  constexpr int64_t kLine = 64;
  const int64_t bytes = task.width * (task.bf16_rows ? 2 : 4);  // of a row
  const TileMap map = map_of(task, tile + 1);
  for (int64_t step = 0; step < map.steps; ++step) {
    for (int64_t lane = 0; lane < map.lanes; ++lane) {
      const char* row = static_cast<const char*>(rows) + map.row(step, lane) * bytes;
      for (int64_t c = 0; c < bytes; c += kLine) __builtin_prefetch(row + c, 0, 2);
    }
  }
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

// A weight of rows of the tensor's width, from row `first` on.
LF_INLINE Left rows_from(const Left& weight, const AttentionTask& task, int64_t first) {
  Left rows = weight;
  rows.data += first * weight.row;
  if (weight.bf16 != nullptr) rows.bf16 += bf16_left_size(first, task.width);
  return rows;
}

LF_INLINE LaneShape shape_of(const AttentionTask& task, const TileMap& map) {
  LaneShape shape{task.tokens, task.head_width, tile_row(map.columns()), map.stride, {}};
  for (int64_t lane = 0; lane < kLanes; ++lane) shape.mine[lane] = lane < map.lanes ? -1 : 0;
  return shape;
}

// A matrix of the tile made head by head, which products over all heads then take as a side. For
// bf16 products a head's part is copied while it is in the L1 cache, and the next head's overwrites
// it.
struct HeadSide {
  enum Kind { kLeft, kRight, kBoth };

  HeadSide(Scratch& scratch_, const AttentionTask& task, int64_t rows_, const TileMap& map,
           Kind kind)
      : scratch(&scratch_),
        operands(task.operands),
        rows(rows_),
        heads(task.heads),
        used(map.used()),
        columns(map.columns()),
        row(tile_row(columns)) {
    copies = operands == Operands::kBf16 && rows % 2 == 0;
    data = scratch->take<float>((copies ? 1 : heads) * rows * row);
    if (copies && kind != kRight) left_bf16 = scratch->take<Bf16>(heads * rows * columns);
    if (copies && kind != kLeft) right_bf16 = scratch->take<Bf16>(heads * rows * columns);
  }

  LF_INLINE float* of(int64_t head) const { return data + (copies ? 0 : head * rows * row); }
  LF_INLINE void end(int64_t head) const {
    float* part = of(head);
    const int64_t before = head * rows * columns;
    clear_columns(part, row, rows, used, columns);
    if (left_bf16 != nullptr) bf16_left({part, row}, rows, columns, left_bf16 + before);
    if (right_bf16 != nullptr) bf16_right({part, row}, rows, columns, right_bf16 + before);
  }
  LF_INLINE Left left() const {
    if (copies) return {nullptr, row, 1, left_bf16};
    return Sides{scratch, operands}.left(data, row, heads * rows, columns);
  }
  LF_INLINE Right right() const {
    if (copies) return {nullptr, row, right_bf16};
    return Sides{scratch, operands}.right(data, row, heads * rows, columns);
  }

  Scratch* scratch;
  Operands operands;
  int64_t rows, heads, used, columns, row;  // rows: of a head
  bool copies;
  float* data;
  Bf16 *left_bf16 = nullptr, *right_bf16 = nullptr;
};

// Memory for one head of a tile.
struct Head {
  float *query, *key, *value;  // as mapped from the rows, and rotated if that is all
  float *compared_query,
      *compared_key;  // as they are compared: directed, then rotated, or the same
  float *query_lengths, *key_lengths;
  float *weights, *mixed;
  float* spare;  // a matrix
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
  LF_INLINE bool directs() const { return task.query_scale != nullptr; }

  LF_INLINE Head memory(Scratch& scratch) const {
    const int64_t matrix = task.head_width * shape.row, lengths = task.tokens * kLanes;
    Head head{};
    head.weights = scratch.take<float>(task.tokens * lengths);
    if (!directs()) return head;
    head.compared_query = scratch.take<float>(matrix);
    head.compared_key = scratch.take<float>(matrix);
    head.query_lengths = scratch.take<float>(lengths);
    head.key_lengths = scratch.take<float>(lengths);
    head.spare = scratch.take<float>(matrix);
    return head;
  }

  // The queries, keys and values of head h from the tile's normalised rows into three matrices of
  // the whole tile.
  LF_INLINE void map_rows(const Right& rows, int64_t h, float* query, float* key,
                          float* value) const {
    map_one(rows, h, task.query, task.query_bias, query);
    const float* bias = task.key_value_bias;
    map_one(rows, h, task.key, bias, key);
    if (!directs()) {
      rotate_pairs(query);
      rotate_pairs(key);
    }
    if (task.plain_values) return;
    map_one(rows, h, task.value, bias != nullptr ? bias + task.wide() : nullptr, value);
  }
  LF_INLINE void map_one(const Right& rows, int64_t h, const Left& weight, const float* bias,
                         float* out) const {
    const int64_t columns = task.columns(), width = task.head_width;
    if (bias != nullptr) fill_rows(bias + h * width, width, columns, out, shape.row);
    multiply(task.operands, rows_from(weight, task, h * width), rows,
             {width, columns, task.width, out, shape.row, bias != nullptr});
  }

  LF_INLINE float* mapped(int64_t tile, Scratch& scratch) const {
    const int64_t rows = task.maps() * task.wide();
    return task.kept != nullptr ? task.kept + tile * rows * shape.row
                                : scratch.take<float>(rows / task.heads * shape.row);
  }

  // A head's part of the mapped rows: kept for all heads, or computed for one at a time. `normal`:
  // the tile's normed rows.
  LF_INLINE void choose(int64_t h, float* mapped, float* mixed, float* normal, Head& head) const {
    head.mixed = mixed;
    const int64_t matrix = task.head_width * shape.row;
    const int64_t apart = task.kept != nullptr ? task.wide() * shape.row : matrix;
    head.query = mapped + (task.kept != nullptr ? h * matrix : 0);
    head.key = head.query + apart;
    head.value = task.plain_values ? normal : head.key + apart;
  }

  // From head.query, key and value to head.weights and head.mixed.
  LF_INLINE void attend(int64_t h, Head& head) const {
    if (directs()) {
      direct(head.query, shape, task.query_scale, head.query_lengths, head.compared_query);
      direct(head.key, shape, task.key_scale, head.key_lengths, head.compared_key);
      rotate_pairs(head.compared_query);
      rotate_pairs(head.compared_key);
    } else {
      head.compared_query = head.query;
      head.compared_key = head.key;
    }
    dots(head.compared_query, head.compared_key, shape, head.weights);
    const int64_t pairs = task.tokens * task.tokens;
    softmax(head.weights, task.tokens, task.scale,
            task.bias != nullptr ? task.bias + h * pairs : nullptr, mask);
    combine(false, head.weights, head.value, value_shape(), head.mixed);
  }
  LF_INLINE void rotate_pairs(float* x) const {
    if (task.rotary != nullptr) rotate(x, shape, task.rotary, task.pairs, false);
  }
};

struct Tile {
  static LF_INLINE void run(const AttentionTask* given, int64_t tile) {
    const AttentionTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(columns);
    const Sides sides{&scratch, task.operands};
    auto* normal = scratch.take<float>(task.width * row);
    auto* spread = scratch.take<float>(columns);
    gather(task.x, task.bf16_rows, task.width, map, normal, row);
    fetch_next(task, tile, task.x);
    if (task.norm.weight != nullptr) {
      normalise(normal, row, task.width, columns, task.norm.epsilon, spread);
      scale_features(normal, row, task.width, columns, task.norm, normal);
    }
    const Right rows = sides.right(normal, row, task.width, columns);

    const Forward forward{task, shape_of(task, map), lane_mask(task, map, scratch)};
    Head head = forward.memory(scratch);
    float* mapped = forward.mapped(tile, scratch);
    const HeadSide mixed(scratch, task, task.value_width(), map, HeadSide::kRight);
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.choose(h, mapped, mixed.of(h), normal, head);
      forward.map_rows(rows, h, head.query, head.key, head.value);
      forward.attend(h, head);
      mixed.end(h);
    }
    multiply(task.operands, task.out, mixed.right(),
             {task.width, columns, task.mixed(), normal, row, false});
    const void* residual = task.residual != nullptr ? task.residual : task.x;
    scatter(normal, row, task.width, map, residual, task.out_bias, task.y, task.bf16_rows);
  }
};

struct TileBack {
  // A tile's rows: normalised, those with the norm's weights, and the gradients of y.
  struct Rows {
    float *normal, *scaled, *spread, *gradient;
  };

  static LF_INLINE Rows load_rows(const AttentionTask& task, int64_t tile, const TileMap& map,
                                  Scratch& scratch) {
    const int64_t columns = map.columns(), row = tile_row(columns), width = task.width;
    const bool norm = task.norm.weight != nullptr;
    Rows rows{};
    rows.normal = scratch.take<float>(width * row);
    rows.scaled = norm ? scratch.take<float>(width * row) : rows.normal;
    rows.spread = scratch.take<float>(columns);
    gather(task.x, task.bf16_rows, width, map, rows.normal, row);
    fetch_next(task, tile, task.x);
    if (norm) {
      normalise(rows.normal, row, width, columns, task.norm.epsilon, rows.spread);
      scale_features(rows.normal, row, width, columns, task.norm, rows.scaled);
    }
    rows.gradient = scratch.take<float>(width * row);
    gather(task.dy, task.bf16_rows, width, map, rows.gradient, row);
    fetch_next(task, tile, task.dy);
    return rows;
  }

  static LF_INLINE void run(const AttentionTask* given, int64_t tile, float* sums, bool add) {
    const AttentionTask& task = *given;
    Scratch scratch;
    const TileMap map = map_of(task, tile);
    const int64_t columns = map.columns(), row = tile_row(columns);
    const int64_t width = task.width, mixes = task.value_width();
    const Sides sides{&scratch, task.operands};
    const Rows rows = load_rows(task, tile, map, scratch);
    const bool keep = task.kept != nullptr;
    const Right scaled_right = keep ? Right{} : sides.right(rows.scaled, row, width, columns);
    const Right gradient_right = sides.right(rows.gradient, row, width, columns);
    auto* mixed_gradient = scratch.take<float>(mixes * row);  // of one head

    const Forward forward{task, shape_of(task, map), lane_mask(task, map, scratch)};
    Head head = forward.memory(scratch);
    float* mapped = forward.mapped(tile, scratch);
    const HeadSide mixed(scratch, task, mixes, map, HeadSide::kLeft);
    auto* weight_gradients = scratch.take<float>(task.tokens * task.tokens * kLanes);
    const HeadSide query(scratch, task, task.head_width, map, HeadSide::kBoth);
    const HeadSide key(scratch, task, task.head_width, map, HeadSide::kBoth);
    const HeadSide value(scratch, task, task.plain_values ? 0 : task.head_width, map,
                         HeadSide::kBoth);
    const HeadSide* maps[] = {&query, &key, &value};
    const int64_t values = task.plain_values ? width * row : 0;
    auto* value_gradient = scratch.take<float>(values);   // of one head
    auto* value_gradients = scratch.take<float>(values);  // of all
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.choose(h, mapped, mixed.of(h), rows.scaled, head);
      if (!keep) forward.map_rows(scaled_right, h, head.query, head.key, head.value);
      forward.attend(h, head);
      mixed.end(h);
      multiply(task.operands, rows_from(task.out_back, task, h * mixes), gradient_right,
               {mixes, columns, width, mixed_gradient, row, false});
      back(forward, head, h, mixed_gradient, weight_gradients, query.of(h), key.of(h),
           task.plain_values ? value_gradient : value.of(h), sums);
      end_head(task, h, maps, row, columns, sums);
      for (int64_t i = 0; i < values; i += kLanes) {
        const Lanes one = load(value_gradient + i);
        store(value_gradients + i, h == 0 ? one : load(value_gradients + i) + one);
      }
    }
    if (task.plain_values) clear_columns(value_gradients, row, width, map.used(), columns);
    end(task, map, sides, rows, mixed, maps, value_gradients, sums, add);
  }

  static LF_INLINE void end_head(const AttentionTask& task, int64_t h, const HeadSide* const* maps,
                                 int64_t row, int64_t columns, float* sums) {
    for (int64_t i = 0; i < task.maps(); ++i) {
      maps[i]->end(h);
      if (task.query_bias == nullptr && task.key_value_bias == nullptr) continue;
      add_sums(maps[i]->of(h), row, task.head_width, columns,
               sums + task.map_bias_sums() + (i * task.wide() + h * task.head_width) * kLanes);
    }
  }

  // From the gradients of all heads' queries, keys and values to those of the weights and of x.
  static LF_INLINE void end(const AttentionTask& task, const TileMap& map, const Sides& sides,
                            const Rows& rows, const HeadSide& mixed, const HeadSide* const* maps,
                            float* value_gradients, float* sums, bool add) {
    const int64_t columns = map.columns(), row = tile_row(columns), width = task.width;
    const int64_t wide = task.wide(), lined = padded(width);
    multiply(task.operands, mixed.left(),
             sides.transposed_right(rows.gradient, row, width, columns),
             {task.mixed(), lined, columns, sums + task.out_sums(), lined, add});
    if (task.out_bias != nullptr) {
      add_sums(rows.gradient, row, width, columns, sums + task.out_bias_sums());
    }
    const Right scaled_transposed = sides.transposed_right(rows.scaled, row, width, columns);
    const Left* weights[] = {&task.query_back, &task.key_back, &task.value_back};
    float* whole = task.plain_values ? value_gradients : rows.scaled;  // the gradient of `scaled`
    for (int64_t i = 0; i < task.maps(); ++i) {
      multiply(task.operands, maps[i]->left(), scaled_transposed,
               {wide, lined, columns, sums + task.map_sums() + i * wide * lined, lined, add});
      multiply(task.operands, *weights[i], maps[i]->right(),
               {width, columns, wide, whole, row, task.plain_values || i > 0});
    }
    if (task.norm.weight != nullptr) {
      normalise_back(rows.normal, whole, row, width, columns, task.norm.weight, rows.spread,
                     sums + task.norm_sums(), sums + task.norm_bias_sums());
    }
    const void* residual = task.residual == nullptr ? task.dy : nullptr;
    scatter(whole, row, width, map, residual, nullptr, task.dx, task.bf16_rows);
  }

  // The gradients of one head's queries, keys and values from that of what it mixed.
  static LF_INLINE void back(const Forward& forward, const Head& head, int64_t h,
                             const float* mixed, float* weight_gradients, float* query, float* key,
                             float* value, float* sums) {
    const AttentionTask& task = forward.task;
    const LaneShape &shape = forward.shape, values = forward.value_shape();
    combine(true, head.weights, mixed, values, value);
    dots(mixed, head.value, values, weight_gradients);
    float* bias =
        task.bias_gradient ? sums + task.bias_sums() + h * task.tokens * task.tokens : nullptr;
    softmax_back(head.weights, weight_gradients, shape, task.scale, bias);
    gradients_of_side<false>(forward, head, weight_gradients, sums, query);
    gradients_of_side<true>(forward, head, weight_gradients, sums, key);
  }

  // Those of the queries, or of the keys, from the scores'.
  template <bool kKeys>
  static LF_INLINE void gradients_of_side(const Forward& forward, const Head& head,
                                          const float* weight_gradients, float* sums, float* out) {
    const AttentionTask& task = forward.task;
    float* rotated = forward.directs() ? head.spare : out;
    combine(kKeys, weight_gradients, kKeys ? head.compared_query : head.compared_key, forward.shape,
            rotated);
    if (task.rotary != nullptr) rotate(rotated, forward.shape, task.rotary, task.pairs, true);
    if (!forward.directs()) return;
    direct_back(kKeys ? head.key : head.query, rotated, forward.shape,
                kKeys ? task.key_scale : task.query_scale,
                kKeys ? head.key_lengths : head.query_lengths,
                sums + (kKeys ? task.key_scale_sums() : task.query_scale_sums()), out);
  }
};

}  // namespace

int64_t AttentionTask::chunks() const {
  return std::clamp<int64_t>(tiles() / 4, std::min<int64_t>(tiles(), 2), 32);
}

void attention_tile(const AttentionTask& task, int64_t tile) { run_kernel<Tile>(&task, tile); }

void attention_chunk_back(const AttentionTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.map_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.tiles() / task.chunks();
  const int64_t end = (chunk + 1) * task.tiles() / task.chunks();
  for (int64_t tile = begin; tile < end; ++tile) {
    run_kernel<TileBack>(&task, tile, sums, tile > begin);
  }
}

}  // namespace lf
