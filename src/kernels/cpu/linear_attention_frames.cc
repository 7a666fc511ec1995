#include "kernels/cpu/linear_attention_frames.h"

#include <algorithm>

namespace lf {
namespace {

// A block of a frame's positions.
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

// Softmax over the features of each position.
LF_INLINE void softmax_features(float* x, int64_t rows, const Span& span) {
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

LF_INLINE void softmax_features_back(const float* x, float* gradient, int64_t rows,
                                     const Span& span) {
  for (int64_t c = 0; c < span.columns; c += kLanes) {
    Lanes along{};
    for (int64_t f = 0; f < rows; ++f) {
      along += load(x + f * span.row + c) * load(gradient + f * span.row + c);
    }
    for (int64_t f = 0; f < rows; ++f) {
      const int64_t at = f * span.row + c;
      store(gradient + at, load(x + at) * (load(gradient + at) - along));
    }
  }
}

// State of the online softmax of a key feature: its maximum, and the sum so far.
struct RunningSoftmax {
  float *largest, *sum;
  float* context;  // [features][lined]
};

// exp of a block's keys, 0 beyond its positions; sums of earlier blocks are rescaled where the
// maximum grows.
LF_INLINE void softmax_keys(float* x, int64_t features, int64_t lined, const Span& span, bool first,
                            const RunningSoftmax& so_far) {
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
  if (weight.bf16 != nullptr) rows.bf16 += bf16_left_size(head * task.head_width, task.width);
  return rows;
}

// A block's normalised rows, transposed and as stored, as right operands of products.
struct Rows {
  float *normal, *spread;
  Right by_feature, by_place;
};

// One head's context of a frame: `mixing` [head width][lined] maps softmaxed queries to what is
// added to x.
struct Head {
  float *context, *mixing, *values;  // [head width][lined], the last [head width][padded]
};

struct Frame {
  const LinearAttentionTask& task;
  int64_t index;
  Scratch* scratch;

  LF_INLINE Sides sides() const { return {scratch, task.operands}; }

  // The normed rows of a block; `normal` keeps what they were before the norm's weights.
  LF_INLINE Rows rows(const Span& span, bool by_place, bool keep) const {
    Rows rows{};
    rows.normal = scratch->take<float>(task.width * span.row);
    rows.spread = scratch->take<float>(span.columns);
    auto* scaled = keep ? scratch->take<float>(task.width * span.row) : rows.normal;
    gather(task.x, task.bf16_rows, task.width, span.map, rows.normal, span.row);
    normalise(rows.normal, span.row, task.width, span.columns, task.norm.epsilon, rows.spread);
    scale_features(rows.normal, span.row, task.width, span.columns, task.norm, scaled);
    rows.by_feature = sides().right(scaled, span.row, task.width, span.columns);
    if (by_place) {
      rows.by_place = sides().transposed_right(scaled, span.row, task.width, span.columns);
    }
    return rows;
  }

  // Pointers into what is kept of the frame, or into `own` where nothing is kept.
  LF_INLINE float* kept(float* own) const {
    return task.kept != nullptr ? task.kept + index * task.kept_size() : own;
  }
  LF_INLINE RunningSoftmax running_softmax(float* kept, int64_t h) const {
    float* largest = kept + task.contexts_size() + h * task.head_width;
    return {largest, largest + task.wide(), kept + h * task.head_width * task.lined()};
  }

  // Adds a block to the contexts of all heads. `key`: memory [head width][row].
  LF_INLINE void add_keys(const Rows& rows, const Span& span, float* kept, float* key) const {
    const int64_t d = task.head_width, lined = task.lined();
    for (int64_t h = 0; h < task.heads; ++h) {
      const RunningSoftmax so_far = running_softmax(kept, h);
      multiply(task.operands, head_rows(task.key, task, h), rows.by_feature,
               {d, span.columns, task.width, key, span.row, false});
      softmax_keys(key, d, lined, span, span.first == 0, so_far);
      Scratch here;
      multiply(task.operands, Sides{&here, task.operands}.left(key, span.row, d, span.columns),
               rows.by_place, {d, lined, span.columns, so_far.context, lined, span.first > 0});
    }
  }

  // Normalises the keys; `sum` becomes the reciprocal of their sum.
  LF_INLINE void end_keys(float* kept) const {
    const RunningSoftmax all_heads = running_softmax(kept, 0);
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
    const Head head{running_softmax(kept, h).context, mixing + h * d * lined, values};
    multiply(Operands::kSingle, {head.context, lined},
             {task.value_transposed + h * d, task.out_row()},
             {d, padded(d), task.width, head.values, padded(d), false});
    multiply(Operands::kSingle, {head.values, padded(d)},
             {task.out_transposed + h * d * lined, lined},
             {d, lined, d, head.mixing, lined, false});
    for (int64_t i = 0; i < d * lined; i += kLanes) {
      store(head.mixing + i, load(head.mixing + i) * task.scale);
    }
    return head;
  }

  // A matrix [head width][lined] transposed, as the left side.
  LF_INLINE Left transposed(const float* matrix) const {
    Left left{matrix, 1, task.lined()};
    if (task.operands == Operands::kBf16) {
      left.bf16 = bf16_left(left, task.width, task.head_width,
                            scratch->take<Bf16>(bf16_left_size(task.width, task.head_width)));
    }
    return left;
  }
};

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
      rows[b] = frame.rows(span, true, false);
      frame.add_keys(rows[b], span, kept, tile);
    }
    frame.end_keys(kept);

    auto* mixing = scratch.take<float>(task.contexts_size());
    auto* values = scratch.take<float>(d * padded(d));
    auto* mixes = scratch.take<Left>(task.heads);
    for (int64_t h = 0; h < task.heads; ++h) {
      mixes[h] = frame.transposed(frame.head(kept, h, mixing, values).mixing);
    }
    auto* added = scratch.take<float>(task.width * tile_row(kBlock));
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      for (int64_t h = 0; h < task.heads; ++h) {
        multiply(task.operands, head_rows(task.query, task, h), rows[b].by_feature,
                 {d, span.columns, task.width, tile, span.row, false});
        softmax_features(tile, d, span);
        Scratch here;
        multiply(task.operands, mixes[h],
                 Sides{&here, task.operands}.right(tile, span.row, d, span.columns),
                 {task.width, span.columns, d, added, span.row, h > 0});
      }
      scatter(added, span.row, task.width, span.map, task.x, task.out_bias, task.y, task.bf16_rows);
    }
  }
};

// The gradients of a frame: first through the queries, which gives those of the contexts, then
// through the keys.
struct Back {
  const Frame& frame;
  float* sums;
  bool add;                // to what the chunk's earlier frames came to
  float *tile, *gradient;  // [head width][row]

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

  // One block and head: from the gradients of y to those of the mixing and of the normed rows.
  LF_INLINE void queries(const Span& span, int64_t h, const Rows& rows, const Left& mixing,
                         const Right& dy, const Right& dy_by_place, float* mixing_gradient,
                         float* rows_gradient) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined();
    const bool more = span.first > 0;
    multiply(task.operands, head_rows(task.query, task, h), rows.by_feature,
             {d, span.columns, task.width, tile, span.row, false});
    softmax_features(tile, d, span);
    multiply(task.operands, mixing, dy, {d, span.columns, task.width, gradient, span.row, false});
    Scratch here;
    multiply(task.operands, left(here, tile, span), dy_by_place,
             {d, lined, span.columns, mixing_gradient, lined, more});
    softmax_features_back(tile, gradient, d, span);
    multiply(task.operands, left(here, gradient, span), rows.by_place,
             {d, lined, span.columns, map_sums(0, h), lined, add || more});
    multiply(task.operands, head_columns(task.query_back, h), right(here, gradient, span),
             {task.width, span.columns, d, rows_gradient, span.row, h > 0});
  }

  // Backward of the mixing: gradients of the context, and its inner product with the context per
  // feature, which the backward of softmax subtracts.
  LF_INLINE void mixing(int64_t h, const Head& head, float* mixing_gradient, float* values_gradient,
                        float* context_gradient, float* along) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined(), square = padded(d);
    for (int64_t i = 0; i < d * lined; i += kLanes) {
      store(mixing_gradient + i, load(mixing_gradient + i) * task.scale);
    }
    multiply(Operands::kSingle, {mixing_gradient, lined}, {task.out + h * d, task.out_row()},
             {d, square, task.width, values_gradient, square, false});
    multiply(Operands::kSingle, {head.values, 1, square}, {mixing_gradient, lined},
             {d, lined, d, sums + task.out_sums() + h * d * lined, lined, add});
    multiply(Operands::kSingle, {values_gradient, square}, {task.value + h * d * lined, lined},
             {d, lined, d, context_gradient, lined, false});
    multiply(Operands::kSingle, {values_gradient, 1, square}, {head.context, lined},
             {d, lined, d, map_sums(2, h), lined, add});
    for (int64_t f = 0; f < d; ++f) {
      Lanes sum{};
      for (int64_t c = 0; c < lined; c += kLanes) {
        sum += load(context_gradient + f * lined + c) * load(head.context + f * lined + c);
      }
      along[f] = sum_of(sum);
    }
  }

  // One block and head: from the gradients of the context to those of the normed rows.
  LF_INLINE void keys(const Span& span, int64_t h, const Rows& rows,
                      const RunningSoftmax& running_softmax, const Left& context,
                      const Left& transposed, const float* along, float* rows_gradient) const {
    const LinearAttentionTask& task = frame.task;
    const int64_t d = task.head_width, lined = task.lined();
    multiply(task.operands, head_rows(task.key, task, h), rows.by_feature,
             {d, span.columns, task.width, tile, span.row, false});
    multiply(task.operands, context, rows.by_feature,
             {d, span.columns, task.width, gradient, span.row, false});
    for (int64_t f = 0; f < d; ++f) {
      float *key = tile + f * span.row, *back = gradient + f * span.row;
      const float largest = running_softmax.largest[f], part = running_softmax.sum[f];
      for (int64_t p = 0; p < span.columns; p += kLanes) {
        const Lanes one = exponential(load(key + p) - largest) * part;
        store(key + p, one);
        store(back + p, one * (load(back + p) - along[f]));
      }
    }
    clear_columns(tile, span.row, d, span.places, span.columns);
    clear_columns(gradient, span.row, d, span.places, span.columns);
    Scratch here;
    multiply(task.operands, left(here, gradient, span), rows.by_place,
             {d, lined, span.columns, map_sums(1, h), lined, add || span.first > 0});
    const Product onto{task.width, span.columns, d, rows_gradient, span.row, true};
    multiply(task.operands, transposed, right(here, tile, span), onto);
    multiply(task.operands, head_columns(task.key_back, h), right(here, gradient, span), onto);
  }

  // Of a weight transposed, [width, wide]: the columns of a head. Copies in bf16 are made a
  // head, [heads][width, head width].
  LF_INLINE Left head_columns(const Left& transposed, int64_t h) const {
    const LinearAttentionTask& task = frame.task;
    Left left = transposed;
    left.data += h * task.head_width * transposed.column;
    if (transposed.bf16 != nullptr) left.bf16 += h * bf16_left_size(task.width, task.head_width);
    return left;
  }
};

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
    auto** gradients = scratch.take<float*>(blocks);  // of the normed rows
    auto* mixing = scratch.take<float>(contexts);
    auto* mixing_gradients = scratch.take<float>(contexts);
    auto* values = scratch.take<float>(task.wide() * padded(d));
    auto* heads = scratch.take<Head>(task.heads);
    auto* lefts = scratch.take<Left>(2 * task.heads);
    for (int64_t h = 0; h < task.heads; ++h) {
      heads[h] = frame.head(kept, h, mixing, values + h * d * padded(d));
      lefts[h] = frame.sides().left(heads[h].mixing, lined, d, task.width);
    }

    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      rows[b] = frame.rows(span, true, true);
      gradients[b] = scratch.take<float>(task.width * span.row);
      Scratch here;
      const Frame block{task, index, &here};
      auto* gradient = here.take<float>(task.width * span.row);
      gather(task.dy, task.bf16_rows, task.width, span.map, gradient, span.row);
      if (task.out_bias != nullptr) {
        add_sums(gradient, span.row, task.width, span.columns, sums + task.out_bias_sums());
      }
      const Right by_feature = block.sides().right(gradient, span.row, task.width, span.columns);
      const Right by_place =
          block.sides().transposed_right(gradient, span.row, task.width, span.columns);
      for (int64_t h = 0; h < task.heads; ++h) {
        back.queries(span, h, rows[b], lefts[h], by_feature, by_place,
                     mixing_gradients + h * d * lined, gradients[b]);
      }
    }

    auto* values_gradient = scratch.take<float>(d * padded(d));
    auto* along = scratch.take<float>(task.wide());
    float* context_gradients = mixing;  // which is not needed any more
    for (int64_t h = 0; h < task.heads; ++h) {
      float* context_gradient = context_gradients + h * d * lined;
      back.mixing(h, heads[h], mixing_gradients + h * d * lined, values_gradient, context_gradient,
                  along + h * d);
      lefts[h] = frame.sides().left(context_gradient, lined, d, task.width);
      lefts[task.heads + h] = frame.transposed(context_gradient);
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const Span span = span_of(task, index, b);
      for (int64_t h = 0; h < task.heads; ++h) {
        back.keys(span, h, rows[b], frame.running_softmax(kept, h), lefts[h], lefts[task.heads + h],
                  along + h * d, gradients[b]);
      }
      normalise_back(rows[b].normal, gradients[b], span.row, task.width, span.columns,
                     task.norm.weight, rows[b].spread, sums + task.norm_sums(),
                     sums + task.norm_bias_sums());
      scatter(gradients[b], span.row, task.width, span.map, task.dy, nullptr, task.dx,
              task.bf16_rows);
    }
  }
};

}  // namespace

int64_t LinearAttentionTask::chunks() const {
  return std::clamp<int64_t>(frames / 4, std::min<int64_t>(frames, 2), 32);
}

void linear_attention_frame(const LinearAttentionTask& task, int64_t frame) {
  run_kernel<FrameForward>(&task, frame);
}

void linear_attention_chunk_back(const LinearAttentionTask& task, int64_t chunk) {
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.out_bias_sums(), sums + task.sums_size(), 0.0F);
  const int64_t begin = chunk * task.frames / task.chunks();
  const int64_t end = (chunk + 1) * task.frames / task.chunks();
  for (int64_t frame = begin; frame < end; ++frame) {
    run_kernel<FrameBack>(&task, frame, sums, frame > begin);
  }
}

}  // namespace lf
