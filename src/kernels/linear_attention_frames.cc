#include "kernels/linear_attention_frames.h"

#include <algorithm>

namespace lf {
namespace {

LF_INLINE TileMap map_of(const LinearAttentionTask& task, int64_t frame) {
  TileMap map{};
  for (int64_t lane = 0; lane < kLanes; ++lane) map.lane_row[lane] = frame * task.places + lane;
  map.lanes = map.stride = map.step_rows = kLanes;
  map.steps = task.columns() / kLanes;
  map.end = (frame + 1) * task.places;
  return map;
}

// Each row to positive numbers that add up to one over the places; 0 beyond them.
LF_INLINE void soften_places(float* x, int64_t rows, int64_t row, int64_t places) {
  for (int64_t f = 0; f < rows; ++f) {
    float* at = x + f * row;
    Lanes most = all(-__builtin_inff());
    for (int64_t p = 0; p < places; p += kLanes) {
      Lanes one = load(at + p);
      for (int64_t lane = places - p; lane < kLanes; ++lane) one[lane] = -__builtin_inff();
      store(at + p, one);
      most = larger(one, most);
    }
    float largest = most[0];
    for (int64_t lane = 1; lane < kLanes; ++lane)
      largest = most[lane] > largest ? most[lane] : largest;
    Lanes sum{};
    for (int64_t p = 0; p < places; p += kLanes) {
      const Lanes one = exponential(load(at + p) - largest);
      store(at + p, one);
      sum += one;
    }
    const float part = 1.0F / sum_of(sum);
    for (int64_t p = 0; p < places; p += kLanes) store(at + p, load(at + p) * part);
  }
}

// From the slope of what soften_places() gave to that of what it was given, in place.
LF_INLINE void soften_places_back(const float* x, float* slope, int64_t rows, int64_t row,
                                  int64_t places) {
  for (int64_t f = 0; f < rows; ++f) {
    Lanes sum{};
    for (int64_t p = 0; p < places; p += kLanes)
      sum += load(x + f * row + p) * load(slope + f * row + p);
    const float along = sum_of(sum);
    for (int64_t p = 0; p < places; p += kLanes) {
      const int64_t at = f * row + p;
      store(slope + at, load(x + at) * (load(slope + at) - along));
    }
  }
}

// Each place's numbers to positive ones that add up to one.
LF_INLINE void soften_features(float* x, int64_t rows, int64_t row, int64_t columns) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    Lanes most = load(x + c), sum{};
    for (int64_t f = 1; f < rows; ++f) most = larger(load(x + f * row + c), most);
    for (int64_t f = 0; f < rows; ++f) {
      const Lanes one = exponential(load(x + f * row + c) - most);
      store(x + f * row + c, one);
      sum += one;
    }
    const Lanes part = 1.0F / sum;
    for (int64_t f = 0; f < rows; ++f) store(x + f * row + c, load(x + f * row + c) * part);
  }
}

LF_INLINE void soften_features_back(const float* x, float* slope, int64_t rows, int64_t row,
                                    int64_t columns) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    Lanes along{};
    for (int64_t f = 0; f < rows; ++f) along += load(x + f * row + c) * load(slope + f * row + c);
    for (int64_t f = 0; f < rows; ++f) {
      const int64_t at = f * row + c;
      store(slope + at, load(x + at) * (load(slope + at) - along));
    }
  }
}

LF_INLINE Left head_rows(const Left& weight, const LinearAttentionTask& task, int64_t head) {
  Left rows = weight;
  rows.data += head * task.head_width * weight.row;
  if (weight.half != nullptr) rows.half += half_left_size(head * task.head_width, task.width);
  return rows;
}

// A frame's normalised rows, features first and as they lie.
struct Frame {
  float *normal, *scaled, *rows, *spread;
  Right by_feature, by_place;
};

// What one head makes of a frame: `mixing` [head width][lined] takes softened queries to what is
// added to x.
struct Head {
  float *query, *key;                // [head width][row], softened
  float *context, *mixing, *values;  // [head width][lined], the last [head width][padded]
};

struct Forward {
  const LinearAttentionTask& task;
  int64_t row;
  Scratch* scratch;

  LF_INLINE Sides sides() const { return {scratch, task.operands}; }

  template <typename X>
  LF_INLINE Frame frame(const TileMap& map) const {
    const int64_t columns = task.columns();
    Frame frame{};
    frame.normal = scratch->take<float>(task.width * row);
    frame.scaled = scratch->take<float>(task.width * row);
    frame.rows = scratch->take<float>(columns * task.lined());
    frame.spread = scratch->take<float>(columns);
    gather(static_cast<const X*>(task.x), task.width, map, frame.normal, row);
    normalise(frame.normal, row, task.width, columns, task.norm.epsilon, frame.spread);
    scale_features(frame.normal, row, task.width, columns, task.norm, frame.scaled);
    turn(frame.scaled, row, task.width, columns, frame.rows);
    frame.by_feature = sides().right(frame.scaled, row, task.width, columns);
    frame.by_place = sides().right(frame.rows, task.lined(), columns, task.lined());
    return frame;
  }

  LF_INLINE Head memory() const {
    const int64_t lined = task.lined(), d = task.head_width;
    return {scratch->take<float>(d * row), scratch->take<float>(d * row),
            scratch->take<float>(d * lined), scratch->take<float>(d * lined),
            scratch->take<float>(d * padded(d))};
  }

  LF_INLINE void attend(const Frame& frame, int64_t h, const Head& head) const {
    const int64_t d = task.head_width, columns = task.columns(), lined = task.lined();
    Scratch here;  // what this head copies
    const Sides copies{&here, task.operands};
    multiply(task.operands, head_rows(task.key, task, h), frame.by_feature,
             {d, columns, task.width, head.key, row, false});
    soften_places(head.key, d, row, task.places);
    multiply(task.operands, copies.left(head.key, row, d, columns), frame.by_place,
             {d, lined, columns, head.context, lined, false});
    multiply(Operands::kSingle, {head.context, lined}, {task.value_turned + h * d, task.out_row()},
             {d, padded(d), task.width, head.values, padded(d), false});
    multiply(Operands::kSingle, {head.values, padded(d)}, {task.out_turned + h * d * lined, lined},
             {d, lined, d, head.mixing, lined, false});
    for (int64_t i = 0; i < d * lined; i += kLanes)
      store(head.mixing + i, load(head.mixing + i) * task.scale);
    multiply(task.operands, head_rows(task.query, task, h), frame.by_feature,
             {d, columns, task.width, head.query, row, false});
    soften_features(head.query, d, row, columns);
  }

  // A matrix [head width][lined] turned round, as the left side.
  LF_INLINE Left turned(const float* matrix, const Sides& copies) const {
    Left left{matrix, 1, task.lined()};
    if (task.operands == Operands::kBfloat16) {
      left.half =
          half_left(left, task.width, task.head_width,
                    copies.scratch->take<Half>(half_left_size(task.width, task.head_width)));
    }
    return left;
  }
};

template <typename X>
struct FrameForward {
  static LF_INLINE void run(const LinearAttentionTask* given, int64_t index) {
    const LinearAttentionTask& task = *given;
    Scratch scratch;
    const Forward forward{task, tile_row(task.columns()), &scratch};
    const TileMap map = map_of(task, index);
    const Frame frame = forward.frame<X>(map);
    const Head head = forward.memory();
    auto* added = scratch.take<float>(task.width * forward.row);
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.attend(frame, h, head);
      Scratch here;
      const Sides copies{&here, task.operands};
      multiply(task.operands, forward.turned(head.mixing, copies),
               copies.right(head.query, forward.row, task.head_width, task.columns()),
               {task.width, task.columns(), task.head_width, added, forward.row, h > 0});
    }
    scatter(added, forward.row, task.width, map, static_cast<const X*>(task.x), task.out_bias,
            static_cast<X*>(task.y));
  }
};

// The slopes of one head, into the chunk's sums and those of the frame's scaled rows.
struct HeadBack {
  const Forward& forward;
  const Frame& frame;
  const Head& head;
  Right slope_by_feature, slope_by_place;
  float *query, *key;                // [head width][row]
  float *mixing, *values, *context;  // as the head's
  float* sums;
  bool add;

  // What `head.mixing` was made of, and what that was made of.
  LF_INLINE void mixing_back(int64_t h) const {
    const LinearAttentionTask& task = forward.task;
    const int64_t d = task.head_width, lined = task.lined(), square = padded(d);
    for (int64_t i = 0; i < d * lined; i += kLanes)
      store(mixing + i, load(mixing + i) * task.scale);
    multiply(Operands::kSingle, {mixing, lined}, {task.out + h * d, task.out_row()},
             {d, square, task.width, values, square, false});
    multiply(Operands::kSingle, {head.values, 1, square}, {mixing, lined},
             {d, lined, d, sums + task.out_sums() + h * d * lined, lined, add});
    multiply(Operands::kSingle, {values, square}, {task.value + h * d * lined, lined},
             {d, lined, d, context, lined, false});
    multiply(Operands::kSingle, {values, 1, square}, {head.context, lined},
             {d, lined, d, sums + task.map_sums() + (2 * task.wide() + h * d) * lined, lined, add});
  }

  LF_INLINE void run(int64_t h, float* scaled_slope) const {
    const LinearAttentionTask& task = forward.task;
    const int64_t d = task.head_width, columns = task.columns(), lined = task.lined(),
                  row = forward.row;
    Scratch here;
    const Sides copies{&here, task.operands};
    multiply(task.operands, copies.left(head.mixing, lined, d, task.width), slope_by_feature,
             {d, columns, task.width, query, row, false});
    multiply(task.operands, copies.left(head.query, row, d, columns), slope_by_place,
             {d, lined, columns, mixing, lined, false});
    soften_features_back(head.query, query, d, row, columns);
    mixing_back(h);
    multiply(task.operands, copies.left(context, lined, d, task.width), frame.by_feature,
             {d, columns, task.width, key, row, false});
    soften_places_back(head.key, key, d, row, task.places);
    clear_columns(key, row, d, task.places, columns);
    multiply(task.operands, copies.left(query, row, d, columns), frame.by_place,
             {d, lined, columns, sums + task.map_sums() + h * d * lined, lined, add});
    multiply(
        task.operands, copies.left(key, row, d, columns), frame.by_place,
        {d, lined, columns, sums + task.map_sums() + (task.wide() + h * d) * lined, lined, add});
    const auto product = Product{task.width, columns, d, scaled_slope, row, true};
    multiply(task.operands, forward.turned(context, copies),
             copies.right(head.key, row, d, columns),
             {task.width, columns, d, scaled_slope, row, h > 0});
    multiply(task.operands, head_columns(task.query_back, h), copies.right(query, row, d, columns),
             product);
    multiply(task.operands, head_columns(task.key_back, h), copies.right(key, row, d, columns),
             product);
  }

  // Of a weight turned round, [width, wide]: the columns of a head. Copies in bfloat16 are made a
  // head, [heads][width, head width].
  LF_INLINE Left head_columns(const Left& turned, int64_t h) const {
    const LinearAttentionTask& task = forward.task;
    Left left = turned;
    left.data += h * task.head_width * turned.column;
    if (turned.half != nullptr) left.half += h * half_left_size(task.width, task.head_width);
    return left;
  }
};

template <typename X>
struct FrameBack {
  static LF_INLINE void run(const LinearAttentionTask* given, int64_t index, float* sums,
                            bool add) {
    const LinearAttentionTask& task = *given;
    Scratch scratch;
    const Forward forward{task, tile_row(task.columns()), &scratch};
    const int64_t row = forward.row, columns = task.columns(), d = task.head_width;
    const TileMap map = map_of(task, index);
    const Frame frame = forward.frame<X>(map);
    const Head head = forward.memory(), slopes = forward.memory();
    auto* slope = scratch.take<float>(task.width * row);
    auto* slope_rows = scratch.take<float>(columns * task.lined());
    auto* scaled_slope = scratch.take<float>(task.width * row);
    const auto* dy = static_cast<const X*>(task.dy);
    gather(dy, task.width, map, slope, row);
    turn(slope, row, task.width, columns, slope_rows);
    const Sides sides = forward.sides();
    const HeadBack back{forward,
                        frame,
                        head,
                        sides.right(slope, row, task.width, columns),
                        sides.right(slope_rows, task.lined(), columns, task.lined()),
                        slopes.query,
                        slopes.key,
                        slopes.mixing,
                        slopes.values,
                        slopes.context,
                        sums,
                        add};
    clear_columns(head.key, row, d, task.places, columns);
    for (int64_t h = 0; h < task.heads; ++h) {
      forward.attend(frame, h, head);
      back.run(h, scaled_slope);
    }
    if (task.out_bias != nullptr)
      add_sums(slope, row, task.width, columns, sums + task.out_bias_sums());
    normalise_back(frame.normal, scaled_slope, row, task.width, columns, task.norm.weight,
                   frame.spread, sums + task.norm_sums(), sums + task.norm_bias_sums());
    scatter(scaled_slope, row, task.width, map, dy, nullptr, static_cast<X*>(task.dx));
  }
};

}  // namespace

int64_t LinearAttentionTask::chunks() const {
  return std::clamp<int64_t>(frames / 4, std::min<int64_t>(frames, 2), 32);
}

void linear_attention_frame(const LinearAttentionTask& task, int64_t frame) {
  if (task.half_rows) return run_kernel<FrameForward<Half>>(&task, frame);
  run_kernel<FrameForward<float>>(&task, frame);
}

void linear_attention_chunk_back(const LinearAttentionTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.out_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.frames / task.chunks();
  const int64_t end = (chunk + 1) * task.frames / task.chunks();
  for (int64_t frame = begin; frame < end; ++frame) {
    if (task.half_rows) {
      run_kernel<FrameBack<Half>>(&task, frame, sums, frame > begin);
    } else {
      run_kernel<FrameBack<float>>(&task, frame, sums, frame > begin);
    }
  }
}

}  // namespace lf
