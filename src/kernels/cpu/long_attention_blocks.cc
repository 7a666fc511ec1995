#include "kernels/cpu/long_attention_blocks.h"

#include <algorithm>

#include "kernels/cpu/products.h"
#include "kernels/cpu/tile.h"

namespace lf {
namespace {

// A tile of scores, as wide as the registers of products like it, and the keys and values it is
// made of fit the L1 cache together.
constexpr int64_t kQueries = 3 * kLanes, kKeys = 64;
constexpr float kLog2E = 1.44269504F;

// Accumulators are fp32, whatever the type of the rows.
LF_INLINE void product(const Left& left, const Right& right, const Product& shape) {
  multiply(Operands::kSingle, left, right, shape);
}

// Queries of a sequence, whose tiles are [.][kQueries].
struct Queries {
  int64_t columns;
  TileMap map;
  int64_t at;  // of their logarithms
};

LF_INLINE Queries queries_of(const LongAttentionTask& task, int64_t sequence, int64_t block) {
  const int64_t first = block * kQueries, count = std::min(kQueries, task.tokens - first);
  return {padded(count), consecutive(sequence * task.tokens + first, count),
          sequence * task.logs_row() + first};
}

// All elements of a tile times `factor`.
LF_INLINE void scale_tile(float* tile, int64_t rows, float factor) {
  for (int64_t i = 0; i < rows * kQueries; i += kLanes) store(tile + i, load(tile + i) * factor);
}

// State of the online softmax, a query a lane; `mixed` is not yet divided by the sum.
struct RunningSoftmax {
  float *most, *sum, *mixed;
};

// exp of the scores of `keys` keys; the state of earlier keys is rescaled.
LF_INLINE void softmax(float* scores, int64_t keys, int64_t width, int64_t columns, bool first,
                       const RunningSoftmax& so_far) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    float* column = scores + c;
    Lanes most = load(column);
    for (int64_t j = 1; j < keys; ++j) most = larger(load(column + j * kQueries), most);
    Lanes sum{};
    if (!first) {
      const Lanes before = load(so_far.most + c);
      most = larger(before, most);
      const Lanes correction = power_of_two(before - most);
      sum = load(so_far.sum + c) * correction;
      for (int64_t f = 0; f < width; ++f) {
        float* mixed = so_far.mixed + f * kQueries + c;
        store(mixed, load(mixed) * correction);
      }
    }
    for (int64_t j = 0; j < keys; ++j) {
      const Lanes one = power_of_two(load(column + j * kQueries) - most);
      store(column + j * kQueries, one);
      sum += one;
    }
    store(so_far.most + c, most);
    store(so_far.sum + c, sum);
  }
}

struct Block {
  static LF_INLINE void run(const LongAttentionTask* given, int64_t sequence, int64_t block) {
    const LongAttentionTask& task = *given;
    const Queries queries = queries_of(task, sequence, block);
    const int64_t width = task.width, columns = queries.columns;
    Scratch scratch;
    auto* query = scratch.take<float>(width * kQueries);
    auto* scores = scratch.take<float>(kKeys * kQueries);
    const RunningSoftmax so_far{scratch.take<float>(kQueries), scratch.take<float>(kQueries),
                                scratch.take<float>(width * kQueries)};
    gather(task.query, false, width, queries.map, query, kQueries);
    scale_tile(query, width, task.scale * kLog2E);
    for (int64_t j = 0; j < task.tokens; j += kKeys) {
      const int64_t keys = std::min(kKeys, task.tokens - j);
      const int64_t at = (sequence * task.tokens + j) * width;
      product({task.key + at, width}, {query, kQueries},
              {keys, columns, width, scores, kQueries, false});
      softmax(scores, keys, width, columns, j == 0, so_far);
      product({task.value + at, 1, width}, {scores, kQueries},
              {width, columns, keys, so_far.mixed, kQueries, j > 0});
    }
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Lanes part = 1.0F / load(so_far.sum + c);
      for (int64_t f = 0; f < width; ++f) {
        float* mixed = so_far.mixed + f * kQueries + c;
        store(mixed, load(mixed) * part);
      }
    }
    for (int64_t c = 0; c < columns; ++c) {
      task.logs[queries.at + c] = so_far.most[c] + __builtin_log2f(so_far.sum[c]);
    }
    scatter(so_far.mixed, kQueries, width, queries.map, nullptr, nullptr, task.mixed, false);
  }
};

// Scores to weights, and gradients of weights to gradients of scores before the scale. `along`: per
// query the sum of weight times gradient, which the backward of softmax subtracts.
LF_INLINE void weights_back(float* scores, float* gradients, int64_t keys, int64_t columns,
                            const float* logs, const float* along) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    const Lanes log = load(logs + c), less = load(along + c);
    for (int64_t at = c; at < keys * kQueries; at += kQueries) {
      const Lanes one = power_of_two(load(scores + at) - log);
      store(scores + at, one);
      store(gradients + at, one * (load(gradients + at) - less));
    }
  }
}

// Memory for one block of queries, as tiles and as rows of padded(width).
struct Tiles {
  Tiles(Scratch& scratch, int64_t width) {
    for (float** tile : {&query, &gradient, &mixed, &query_gradient}) {
      *tile = scratch.take<float>(width * kQueries);
    }
    query_rows = scratch.take<float>(kQueries * padded(width));
    gradient_rows = scratch.take<float>(kQueries * padded(width));
    scores = scratch.take<float>(kKeys * kQueries);
    gradients = scratch.take<float>(kKeys * kQueries);
    along = scratch.take<float>(kQueries);
  }
  float *query, *gradient, *mixed, *query_gradient, *query_rows, *gradient_rows, *scores,
      *gradients, *along;
};

struct BlockBack {
  const LongAttentionTask& task;
  int64_t sequence;
  Tiles tiles;
  float *keys, *values;  // gradients, [tokens][padded(width)]

  LF_INLINE void load_block(const Queries& queries) const {
    const int64_t width = task.width, columns = queries.columns;
    gather(task.query, false, width, queries.map, tiles.query, kQueries);
    gather(task.gradient, false, width, queries.map, tiles.gradient, kQueries);
    gather(task.mixed, false, width, queries.map, tiles.mixed, kQueries);
    transpose_tile(tiles.query, kQueries, width, columns, tiles.query_rows);
    transpose_tile(tiles.gradient, kQueries, width, columns, tiles.gradient_rows);
    scale_tile(tiles.query, width, task.scale * kLog2E);
    for (int64_t c = 0; c < columns; c += kLanes) {
      Lanes along{};
      for (int64_t at = c; at < width * kQueries; at += kQueries) {
        along += load(tiles.gradient + at) * load(tiles.mixed + at);
      }
      store(tiles.along + c, along);
    }
  }

  LF_INLINE void run(int64_t block) const {
    const Queries queries = queries_of(task, sequence, block);
    const int64_t width = task.width, wide = padded(width), columns = queries.columns;
    load_block(queries);
    const Right query_rows{tiles.query_rows, wide}, gradient_rows{tiles.gradient_rows, wide};
    for (int64_t j = 0; j < task.tokens; j += kKeys) {
      const int64_t count = std::min(kKeys, task.tokens - j);
      const int64_t at = (sequence * task.tokens + j) * width;
      const Product square{count, columns, width, tiles.scores, kQueries, false};
      product({task.key + at, width}, {tiles.query, kQueries}, square);
      Product gradients = square;
      gradients.out = tiles.gradients;
      product({task.value + at, width}, {tiles.gradient, kQueries}, gradients);
      weights_back(tiles.scores, tiles.gradients, count, columns, task.logs + queries.at,
                   tiles.along);
      product({tiles.scores, kQueries}, gradient_rows,
              {count, wide, columns, values + j * wide, wide, block > 0});
      product({tiles.gradients, kQueries}, query_rows,
              {count, wide, columns, keys + j * wide, wide, block > 0});
      product({task.key + at, 1, width}, {tiles.gradients, kQueries},
              {width, columns, count, tiles.query_gradient, kQueries, j > 0});
    }
    scale_tile(tiles.query_gradient, width, task.scale);
    scatter(tiles.query_gradient, kQueries, width, queries.map, nullptr, nullptr,
            task.query_gradient, false);
  }
};

// Rows of padded(width) to the sequence's own, times `factor`.
LF_INLINE void write_rows(const float* rows, const LongAttentionTask& task, int64_t sequence,
                          float factor, float* out) {
  const int64_t width = task.width, wide = padded(width);
  out += sequence * task.tokens * width;
  for (int64_t i = 0; i < task.tokens; ++i) {
    for (int64_t c = 0; c < width; c += kLanes) {
      store(out + i * width + c, load(rows + i * wide + c) * factor, width - c);
    }
  }
}

struct Back {
  static LF_INLINE void run(const LongAttentionTask* given, int64_t sequence) {
    const LongAttentionTask& task = *given;
    Scratch scratch;
    const int64_t rows = task.tokens * padded(task.width);
    const BlockBack back{task, sequence, Tiles(scratch, task.width), scratch.take<float>(rows),
                         scratch.take<float>(rows)};
    for (int64_t block = 0; block < task.blocks(); ++block) back.run(block);
    write_rows(back.keys, task, sequence, task.scale, task.key_gradient);
    write_rows(back.values, task, sequence, 1, task.value_gradient);
  }
};

}  // namespace

int64_t LongAttentionTask::blocks() const { return (tokens + kQueries - 1) / kQueries; }
int64_t LongAttentionTask::logs_row() const { return blocks() * kQueries; }

void long_attention_block(const LongAttentionTask& task, int64_t sequence, int64_t block) {
  run_kernel<Block>(&task, sequence, block);
}

void long_attention_back(const LongAttentionTask& task, int64_t sequence) {
  run_kernel<Back>(&task, sequence);
}

}  // namespace lf
