#include "kernels/cpu/token_layer_rows.h"

#include <algorithm>

namespace lf {
namespace {

constexpr int64_t kFeatures = 64;  // that a thread makes at a time

// Intermediate values between the phases, [feature][row()] each; attention's are
// [sequence][feature], as the tensors are.
struct Between {
  float *x, *normal, *maps, *h, *active;
  float *maps_of, *mixed_of;
};

struct Begin {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b) {
    const int64_t row = task->row(), columns = task->columns();
    Scratch scratch;
    auto* spread = scratch.take<float>(columns);
    gather(task->x, false, task->width, consecutive(0, task->rows), b->x, row);
    std::copy(b->x, b->x + task->width * row, b->normal);
    normalise(b->normal, row, task->width, columns, task->norm1.epsilon, spread);
    scale_features(b->normal, row, task->width, columns, task->norm1, b->normal);
  }
};

struct NormAgain {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b) {
    const int64_t row = task->row(), columns = task->columns();
    Scratch scratch;
    auto* spread = scratch.take<float>(columns);
    std::copy(b->h, b->h + task->width * row, b->normal);
    normalise(b->normal, row, task->width, columns, task->norm2.epsilon, spread);
    scale_features(b->normal, row, task->width, columns, task->norm2, b->normal);
  }
};

struct ToSequences {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b) {
    scatter(b->maps, task->row(), 3 * task->width, consecutive(0, task->rows), nullptr, nullptr,
            b->maps_of, false);
  }
};

struct FromSequences {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b) {
    gather(b->mixed_of, false, task->width, consecutive(0, task->rows), b->normal, task->row());
  }
};

struct End {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b) {
    scatter(b->x, task->row(), task->width, consecutive(0, task->rows), nullptr, nullptr, task->y,
            false);
  }
};

// Features `first` to `end` of a map of [depth][row] plus their bias, and then, where it is given,
// `added`, or else the GELU.
enum class Then { kNothing, kGelu, kAdd };
struct Map {
  static LF_INLINE void run(const TokenLayerTask* task, const FeatureMap* map, int64_t depth,
                            const float* in, int64_t first, int64_t end, Then then,
                            const float* added, float* out) {
    const int64_t row = task->row(), columns = task->columns();
    for (int64_t f = first; f < end; ++f) {
      const Lanes bias = all(map->bias != nullptr ? map->bias[f] : 0.0F);
      for (int64_t c = 0; c < columns; c += kLanes) store(out + f * row + c, bias);
    }
    multiply(Operands::kSingle, {map->weight + first * depth, depth}, {in, row},
             {end - first, columns, depth, out + first * row, row, true});
    if (then == Then::kNothing) return;
    for (int64_t f = first; f < end; ++f) {
      for (int64_t c = 0; c < columns; c += kLanes) {
        float* at = out + f * row + c;
        store(at,
              then == Then::kGelu ? gelu(load(at)).value : load(at) + load(added + f * row + c));
      }
    }
  }
};

// One sequence: its new key and value join the cache, and its query sees all of them.
struct Attend {
  static LF_INLINE void run(const TokenLayerTask* task, const Between* b, int64_t sequence) {
    const int64_t width = task->head_width(), seen = task->length + 1;
    Scratch scratch;
    auto* query = scratch.take<float>(width);
    auto* scores = scratch.take<float>(padded(seen));
    const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(width));
    for (int64_t head = 0; head < task->heads; ++head) {
      const int64_t cache = (sequence * task->heads + head) * task->places * width;
      float *keys = task->keys + cache, *values = task->values + cache;
      const float* maps = b->maps_of + sequence * 3 * task->width + head * width;
      for (int64_t c = 0; c < width; ++c) query[c] = maps[c] * scale;
      std::copy_n(maps + task->width, width, keys + task->length * width);
      std::copy_n(maps + 2 * task->width, width, values + task->length * width);
      weigh(query, keys, width, seen, scores);
      mix(scores, values, width, seen, b->mixed_of + sequence * task->width + head * width);
    }
  }

  // softmax(keys query), sixteen keys at a time.
  static LF_INLINE void weigh(const float* query, const float* keys, int64_t width, int64_t seen,
                              float* scores) {
    Lanes most = all(-3.4e38F);
    for (int64_t first = 0; first < seen; first += kLanes) {
      const int64_t count = std::min(kLanes, seen - first);
      Lanes part[kLanes];
      for (int64_t k = 0; k < kLanes; ++k) {
        part[k] = Lanes{};
        if (k >= count) continue;
        const float* key = keys + (first + k) * width;
        int64_t c = 0;
        for (; c + kLanes <= width; c += kLanes) part[k] += load(query + c) * load(key + c);
        if (c < width) part[k] += load(query + c, width - c) * load(key + c, width - c);
      }
      transpose(part);
      Lanes sum = part[0];
      for (int64_t e = 1; e < kLanes; ++e) sum += part[e];
      store(scores + first, sum);
      for (int64_t k = count; k < kLanes; ++k) scores[first + k] = -3.4e38F;  // weighs nothing
      most = larger(load(scores + first), most);
    }
    const float highest = largest_of(most);
    Lanes sum{};
    for (int64_t first = 0; first < seen; first += kLanes) {
      const Lanes weight = exponential(load(scores + first) - highest);
      store(scores + first, weight);
      sum += weight;
    }
    const float share = 1.0F / sum_of(sum);
    for (int64_t first = 0; first < seen; first += kLanes) {
      store(scores + first, load(scores + first) * share);
    }
  }

  static LF_INLINE void mix(const float* weights, const float* values, int64_t width, int64_t seen,
                            float* out) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t count = std::min(kLanes, width - c);
      Lanes sum{};
      for (int64_t k = 0; k < seen; ++k) sum += weights[k] * load(values + k * width + c, count);
      store(out + c, sum, count);
    }
  }
};

}  // namespace

void run_token_layer(const TokenLayerTask& task, const OverThreads& over_threads) {
  const int64_t row = task.row();
  Scratch scratch;
  const auto features = [&](int64_t count) { return scratch.take<float>(count * row); };
  const Between between{features(task.width),
                        features(task.width),
                        features(3 * task.width),
                        features(task.width),
                        features(task.hidden),
                        scratch.take<float>(task.rows * 3 * task.width),
                        scratch.take<float>(task.rows * task.width)};
  const auto map = [&](const FeatureMap& with, int64_t count, int64_t depth, const float* in,
                       Then then, const float* added, float* out) {
    over_threads((count + kFeatures - 1) / kFeatures, [&](int64_t part) {
      const int64_t first = part * kFeatures;
      run_kernel<Map>(&task, &with, depth, in, first, std::min(count, first + kFeatures), then,
                      added, out);
    });
  };
  run_kernel<Begin>(&task, &between);
  map(task.qkv, 3 * task.width, task.width, between.normal, Then::kNothing, nullptr, between.maps);
  run_kernel<ToSequences>(&task, &between);
  over_threads(task.rows, [&](int64_t i) { run_kernel<Attend>(&task, &between, i); });
  run_kernel<FromSequences>(&task, &between);
  map(task.out, task.width, task.width, between.normal, Then::kAdd, between.x, between.h);
  run_kernel<NormAgain>(&task, &between);
  map(task.wide, task.hidden, task.width, between.normal, Then::kGelu, nullptr, between.active);
  map(task.narrow, task.width, task.hidden, between.active, Then::kAdd, between.h, between.x);
  run_kernel<End>(&task, &between);
}

}  // namespace lf
