#include "kernels/cpu/linear_attention_frames.h"

#include <algorithm>

namespace lf {
namespace {

// A block of a frame's places.
struct Span {
  int64_t first, places, columns, row;  // row: of its tiles
  TileMap map;
};

LF_INLINE Span span_of(const LinearAttentionTask& task, int64_t frame, int64_t block) {
  Span span{};
  span.first = block * kBlock;
  span.places = std::min(kBlock, task.places - span.first);
  span.columns = padded(span.places);
  span.row = tile_row(span.columns);
  span.map = consecutive(frame * task.places + span.first, span.places);
  return span;
}

// Each place's numbers to positive ones that add up to one.
LF_INLINE void soften_features(float* x, int64_t rows, const Span& span) {
  for (int64_t c = 0; c < span.columns; c += kLanes) {
    Lanes most = load(x + c), sum{};
    for (int64_t f = 1; f < rows; ++f) most = larger(load(x + f * span.row + c), most);
    for (int64_t f = 0; f < rows; ++f) {
      const Lanes one = exponential(load(x + f * span.row + c) - most);
      store(x + f * span.row + c, one);
      sum += one;
    }
    const Lanes part = 1.0F / sum;
    for (int64_t f = 0; f < rows; ++f) {
      store(x + f * span.row + c, load(x + f * span.row + c) * part);
    }
  }
}

LF_INLINE void soften_features_back(const float* x, float* slope, int64_t rows, const Span& span) {
  for (int64_t c = 0; c < span.columns; c += kLanes) {
    Lanes along{};
    for (int64_t f = 0; f < rows; ++f) {
      along += load(x + f * span.row + c) * load(slope + f * span.row + c);
    }
    for (int64_t f = 0; f < rows; ++f) {
      const int64_t at = f * span.row + c;
      store(slope + at, load(x + at) * (load(slope + at) - along));
    }
  }
}

// What a feature of the keys is softened with, and what has been summed with it so far.
struct Softening {
  float *largest, *sum;
  float* context;  // [features][lined]
};

// A block's keys to positive numbers, 0 beyond its places; what earlier blocks came to is corrected
// where a number is larger than theirs.
LF_INLINE void soften_keys(float* x, int64_t features, int64_t lined, const Span& span, bool first,
                           const Softening& so_far) {
  for (int64_t f = 0; f < features; ++f) {
    float* at = x + f * span.row;
    for (int64_t p = span.places; p < span.columns; ++p) at[p] = -__builtin_inff();
    Lanes most = load(at);
    for (int64_t p = kLanes; p < span.columns; p += kLanes) most = larger(load(at + p), most);
    float largest = largest_of(most), before = 0;
    if (!first) {
      const float known = so_far.largest[f];
      largest = known > largest ? known : largest;
      const float correction = largest > known ? exponential(all(known - largest))[0] : 1.0F;
      before = so_far.sum[f] * correction;
      if (largest > known) {
        float* context = so_far.context + f * lined;
        for (int64_t c = 0; c < lined; c += kLanes) {
          store(context + c, load(context + c) * correction);
        }
      }
    }
    Lanes sum{};
    for (int64_t p = 0; p < span.columns; p += kLanes) {
      const Lanes one = exponential(load(at + p) - largest);
      store(at + p, one);
      sum += one;
    }
    so_far.largest[f] = largest;
    so_far.sum[f] = before + sum_of(sum);
  }
}

LF_INLINE Left head_rows(const Left& weight, const LinearAttentionTask& task, int64_t head) {
  Left rows = weight;
  rows.data += head * task.head_width * weight.row;
  if (weight.half != nullptr) rows.half += half_left_size(head * task.head_width, task.width);
  return rows;
}

// A block's normalised rows, features first and as they lie, as right sides of products.
struct Rows {
  float *normal, *spread;
  Right by_feature, by_place;
};

// What one head's keys make of a frame: `mixing` [head width][lined] takes softened queries to what
// is added to x.
struct Head {
  float *context, *mixing, *values;  // [head width][lined], the last [head width][padded]
};

struct Frame {
  const LinearAttentionTask& task;
  int64_t index;
  Scratch* scratch;

  LF_INLINE Sides sides() const { return {scratch, task.operands}; }

  // The normed rows of a block; `normal` keeps what they were before the norm's weights.
  template <typename X>
  LF_INLINE Rows rows(const Span& span, bool by_place, bool keep) const {
    Rows rows{};
    rows.normal = scratch->take<float>(task.width * span.row);
    rows.spread = scratch->take<float>(span.columns);
    auto* scaled = keep ? scratch->take<float>(task.width * span.row) : rows.normal;
    gather(static_cast<const X*>(task.x), task.width, span.map, rows.normal, span.row);
    normalise(rows.normal, span.row, task.width, span.columns, task.norm.epsilon, rows.spread);
    scale_features(rows.normal, span.row, task.width, span.columns, task.norm, scaled);
    rows.by_feature = sides().right(scaled, span.row, task.width, span.columns);
    if (by_place) {
      rows.by_place = sides().turned_right(scaled, span.row, task.width, span.columns);
    }
    return rows;
  }

  // Places in what is kept of the frame, or in `own` where nothing is.
  LF_INLINE float* kept(float* own) const {
    return task.kept != nullptr ? task.kept + index * task.kept_size() : own;
  }
  LF_INLINE Softening softening(float* kept, int64_t h) const {
    float* largest = kept + task.contexts_size() + h * task.head_width;
    return {largest, largest + task.wide(), kept + h * task.head_width * task.lined()};
  }

  // Adds a block to the contexts of all heads. `key`: memory [head width][row].
  LF_INLINE void add_keys(const Rows& rows, const Span& span, float* kept, float* key) const {
    const int64_t d = task.head_width, lined = task.lined();
    for (int64_t h = 0; h < task.heads; ++h) {
      const Softening so_far = softening(kept, h);
      multiply(task.operands, head_rows(task.key, task, h), rows.by_feature,
               {d, span.columns, task.width, key, span.row, false});
      soften_keys(key, d, lined, span, span.first == 0, so_far);
      Scratch here;
      multiply(task.operands, Sides{&here, task.operands}.left(key, span.row, d, span.columns),
               rows.by_place, {d, lined, span.columns, so_far.context, lined, span.first > 0});
    }
  }

  // Keys add up to one from here on, and `sum` is 1 over what they did.
  LF_INLINE void end_keys(float* kept) const {
    const Softening all_heads = softening(kept, 0);
    for (int64_t f = 0; f < task.wide(); ++f) {
      const float part = all_heads.sum[f] = 1.0F / all_heads.sum[f];
      float* context = all_heads.context + f * task.lined();
      for (int64_t c = 0; c < task.lined(); c += kLanes) {
        store(context + c, load(context + c) * part);
      }
    }
  }

  LF_INLINE Head head(float* kept, int64_t h, float* mixing, float* values) const {
    const int64_t d = task.head_width, lined = task.lined();
    const Head head{softening(kept, h).context, mixing + h * d * lined, values};
    multiply(Operands::kSingle, {head.context, lined}, {task.value_turned + h * d, task.out_row()},
             {d, padded(d), task.width, head.values, padded(d), false});
    multiply(Operands::kSingle, {head.values, padded(d)}, {task.out_turned + h * d * lined, lined},
             {d, lined, d, head.mixing, lined, false});
    for (int64_t i = 0; i < d * lined; i += kLanes) {
      store(head.mixing + i, load(head.mixing + i) * task.scale);
    }
    return head;
  }

  // A matrix [head width][lined] turned round, as the left side.
  LF_INLINE Left turned(const float* matrix) const {
    Left left{matrix, 1, task.lined()};
    if (task.operands == Operands::kBfloat16) {
      left.half = half_left(left, task.width, task.head_width,
                            scratch->take<Half>(half_left_size(task.width, task.head_width)));
    }
    return left;
  }
};

template <typename X>
struct FrameForward {
  static LF_INLINE void run(const LinearAttentionTask* given, int64_t index) {
    const LinearAttentionTask& task = *given;
    Scratch scratch;
    const Frame frame{task, index, &scratch};
    const int64_t blocks = task.blocks(), d = task.head_width;
    auto* rows = scratch.take<Rows>(blocks);
    float* kept = frame.kept(scratch.take<float>(task.kept == nullptr ? task.kept_size() : 0));
    auto* tile = scratch.take<float>(d * tile_row(kBlock));
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      rows[b] = frame.rows<X>(span, true, false);
      frame.add_keys(rows[b], span, kept, tile);
    }
    frame.end_keys(kept);

    auto* mixing = scratch.take<float>(task.contexts_size());
    auto* values = scratch.take<float>(d * padded(d));
    auto* mixes = scratch.take<Left>(task.heads);
    for (int64_t h = 0; h < task.heads; ++h) {
      mixes[h] = frame.turned(frame.head(kept, h, mixing, values).mixing);
    }
    auto* added = scratch.take<float>(task.width * tile_row(kBlock));
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      for (int64_t h = 0; h < task.heads; ++h) {
        multiply(task.operands, head_rows(task.query, task, h), rows[b].by_feature,
                 {d, span.columns, task.width, tile, span.row, false});
        soften_features(tile, d, span);
        Scratch here;
        multiply(task.operands, mixes[h],
                 Sides{&here, task.operands}.right(tile, span.row, d, span.columns),
                 {task.width, span.columns, d, added, span.row, h > 0});
      }
      scatter(added, span.row, task.width, span.map, static_cast<const X*>(task.x), task.out_bias,
              static_cast<X*>(task.y));
    }
  }
};

// The slopes of a frame: first through the queries, which gives those of the contexts, then through
// the keys.
struct Back {
  const Frame& frame;
  float* sums;
  bool add;             // to what the chunk's earlier frames came to
  float *tile, *slope;  // [head width][row]

  LF_INLINE Left left(Scratch& here, const float* data, const Span& span) const {
    return Sides{&here, frame.task.operands}.left(data, span.row, frame.task.head_width,
                                                  span.columns);
  }
  LF_INLINE Right right(Scratch& here, const float* data, const Span& span) const {
    return Sides{&here, frame.task.operands}.right(data, span.row, frame.task.head_width,
                                                   span.columns);
  }
  LF_INLINE float* map_sums(int64_t part, int64_t h) const {
    const LinearAttentionTask& task = frame.task;
    return sums + task.map_sums() + (part * task.wide() + h * task.head_width) * task.lined();
  }

  // One block and head: from the slopes of y to those of the mixing and of the normed rows.
  LF_INLINE void queries(const Span& span, int64_t h, const Rows& rows, const Left& mixing,
                         const Right& dy, const Right& dy_by_place, float* mixing_slope,
                         float* rows_slope) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined();
    const bool more = span.first > 0;
    multiply(task.operands, head_rows(task.query, task, h), rows.by_feature,
             {d, span.columns, task.width, tile, span.row, false});
    soften_features(tile, d, span);
    multiply(task.operands, mixing, dy, {d, span.columns, task.width, slope, span.row, false});
    Scratch here;
    multiply(task.operands, left(here, tile, span), dy_by_place,
             {d, lined, span.columns, mixing_slope, lined, more});
    soften_features_back(tile, slope, d, span);
    multiply(task.operands, left(here, slope, span), rows.by_place,
             {d, lined, span.columns, map_sums(0, h), lined, add || more});
    multiply(task.operands, head_columns(task.query_back, h), right(here, slope, span),
             {task.width, span.columns, d, rows_slope, span.row, h > 0});
  }

  // What the mixing was made of, and what that was made of: gives the slopes of the context, and of
  // what is along it in each feature.
  LF_INLINE void mixing(int64_t h, const Head& head, float* mixing_slope, float* values_slope,
                        float* context_slope, float* along) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined(), square = padded(d);
    for (int64_t i = 0; i < d * lined; i += kLanes) {
      store(mixing_slope + i, load(mixing_slope + i) * task.scale);
    }
    multiply(Operands::kSingle, {mixing_slope, lined}, {task.out + h * d, task.out_row()},
             {d, square, task.width, values_slope, square, false});
    multiply(Operands::kSingle, {head.values, 1, square}, {mixing_slope, lined},
             {d, lined, d, sums + task.out_sums() + h * d * lined, lined, add});
    multiply(Operands::kSingle, {values_slope, square}, {task.value + h * d * lined, lined},
             {d, lined, d, context_slope, lined, false});
    multiply(Operands::kSingle, {values_slope, 1, square}, {head.context, lined},
             {d, lined, d, map_sums(2, h), lined, add});
    for (int64_t f = 0; f < d; ++f) {
      Lanes sum{};
      for (int64_t c = 0; c < lined; c += kLanes) {
        sum += load(context_slope + f * lined + c) * load(head.context + f * lined + c);
      }
      along[f] = sum_of(sum);
    }
  }

  // One block and head: from the slopes of the context to those of the normed rows.
  LF_INLINE void keys(const Span& span, int64_t h, const Rows& rows, const Softening& softening,
                      const Left& context, const Left& turned, const float* along,
                      float* rows_slope) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined();
    multiply(task.operands, head_rows(task.key, task, h), rows.by_feature,
             {d, span.columns, task.width, tile, span.row, false});
    multiply(task.operands, context, rows.by_feature,
             {d, span.columns, task.width, slope, span.row, false});
    for (int64_t f = 0; f < d; ++f) {
      float *key = tile + f * span.row, *back = slope + f * span.row;
      const float largest = softening.largest[f], part = softening.sum[f];
      for (int64_t p = 0; p < span.columns; p += kLanes) {
        const Lanes one = exponential(load(key + p) - largest) * part;
        store(key + p, one);
        store(back + p, one * (load(back + p) - along[f]));
      }
    }
    clear_columns(tile, span.row, d, span.places, span.columns);
    clear_columns(slope, span.row, d, span.places, span.columns);
    Scratch here;
    multiply(task.operands, left(here, slope, span), rows.by_place,
             {d, lined, span.columns, map_sums(1, h), lined, add || span.first > 0});
    const Product onto{task.width, span.columns, d, rows_slope, span.row, true};
    multiply(task.operands, turned, right(here, tile, span), onto);
    multiply(task.operands, head_columns(task.key_back, h), right(here, slope, span), onto);
  }

  // Of a weight turned round, [width, wide]: the columns of a head. Copies in bfloat16 are made a
  // head, [heads][width, head width].
  LF_INLINE Left head_columns(const Left& turned, int64_t h) const {
    const LinearAttentionTask& task = frame.task;
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
    const Frame frame{task, index, &scratch};
    const int64_t blocks = task.blocks(), d = task.head_width, lined = task.lined();
    const int64_t tile = d * tile_row(kBlock), contexts = task.contexts_size();
    const Back back{frame, sums, add, scratch.take<float>(tile), scratch.take<float>(tile)};
    float* kept = frame.kept(nullptr);
    auto* rows = scratch.take<Rows>(blocks);
    auto** slopes = scratch.take<float*>(blocks);  // of the normed rows
    auto* mixing = scratch.take<float>(contexts);
    auto* mixing_slopes = scratch.take<float>(contexts);
    auto* values = scratch.take<float>(task.wide() * padded(d));
    auto* heads = scratch.take<Head>(task.heads);
    auto* lefts = scratch.take<Left>(2 * task.heads);
    for (int64_t h = 0; h < task.heads; ++h) {
      heads[h] = frame.head(kept, h, mixing, values + h * d * padded(d));
      lefts[h] = frame.sides().left(heads[h].mixing, lined, d, task.width);
    }

    const auto* dy = static_cast<const X*>(task.dy);
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      rows[b] = frame.rows<X>(span, true, true);
      slopes[b] = scratch.take<float>(task.width * span.row);
      Scratch here;
      const Frame block{task, index, &here};
      auto* slope = here.take<float>(task.width * span.row);
      gather(dy, task.width, span.map, slope, span.row);
      if (task.out_bias != nullptr) {
        add_sums(slope, span.row, task.width, span.columns, sums + task.out_bias_sums());
      }
      const Right by_feature = block.sides().right(slope, span.row, task.width, span.columns);
      const Right by_place = block.sides().turned_right(slope, span.row, task.width, span.columns);
      for (int64_t h = 0; h < task.heads; ++h) {
        back.queries(span, h, rows[b], lefts[h], by_feature, by_place,
                     mixing_slopes + h * d * lined, slopes[b]);
      }
    }

    auto* values_slope = scratch.take<float>(d * padded(d));
    auto* along = scratch.take<float>(task.wide());
    float* context_slopes = mixing;  // which is not needed any more
    for (int64_t h = 0; h < task.heads; ++h) {
      float* context_slope = context_slopes + h * d * lined;
      back.mixing(h, heads[h], mixing_slopes + h * d * lined, values_slope, context_slope,
                  along + h * d);
      lefts[h] = frame.sides().left(context_slope, lined, d, task.width);
      lefts[task.heads + h] = frame.turned(context_slope);
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      for (int64_t h = 0; h < task.heads; ++h) {
        back.keys(span, h, rows[b], frame.softening(kept, h), lefts[h], lefts[task.heads + h],
                  along + h * d, slopes[b]);
      }
      normalise_back(rows[b].normal, slopes[b], span.row, task.width, span.columns,
                     task.norm.weight, rows[b].spread, sums + task.norm_sums(),
                     sums + task.norm_bias_sums());
      scatter(slopes[b], span.row, task.width, span.map, dy, nullptr, static_cast<X*>(task.dx));
    }
  }
};

}  // namespace

int64_t LinearAttentionTask::chunks() const {
  return std::clamp<int64_t>(frames / 4, std::min<int64_t>(frames, 2), 32);
}

void linear_attention_frame(const LinearAttentionTask& task, int64_t frame) {
  run_rows<FrameForward>(task.half_rows, &task, frame);
}

void linear_attention_chunk_back(const LinearAttentionTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.out_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.frames / task.chunks();
  const int64_t end = (chunk + 1) * task.frames / task.chunks();
  for (int64_t frame = begin; frame < end; ++frame) {
    run_rows<FrameBack>(task.half_rows, &task, frame, sums, frame > begin);
  }
}

}  // namespace lf
