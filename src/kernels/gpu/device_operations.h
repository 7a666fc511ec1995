// The fused operations of a GPU as raw device pointers and shapes: what the CUDA plugin
// implements (src/cuda/operations.cc) and the operations here call. Neither torch nor CUDA is
// known here. Everything is queued on the current stream of the current device and returns at
// once; nothing is allocated, waited for or added up in an order that changes, so that steps can
// be recorded and repeat their bits.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lf {

// Elements at a device address: single precision, or bf16.
struct DeviceData {
  const void* data = nullptr;
  bool bf16 = false;
};
struct DeviceResult {
  void* data = nullptr;
  bool bf16 = false;
};

// y = silu(norm(x) * gain + shift) + residual over images of places of channels, and its way back.
struct DeviceNorm {
  enum class Kind { kRms, kLayer, kGroup };  // kLayer: mean and deviation of each place
  Kind kind = Kind::kRms;
  int64_t images = 0, places = 0, channels = 0, groups = 0;
  int64_t shared = 1;  // images to a row of gain and shift
  float epsilon = 0;
  bool silu = false;
  const float *gain = nullptr, *shift = nullptr;  // shift may be nullptr
  DeviceData x, residual;                         // residual: of x's type; nullptr: none
  DeviceResult y;
  DeviceData dy, added;  // of y's and x's type; `added` is added to dx; nullptr: none
  DeviceResult dx;
  float* statistics =
      nullptr;             // of group norm: [images][groups][2], written forward, read backward
  float* sums = nullptr;   // [images][slices()][2][channels], backward and forward of group
                           // norm; backward leaves the gradients of gain and shift there
  float* means = nullptr;  // backward of group norm, scratch: [images][groups][2]

  // Parts of an image that are summed by themselves.
  int64_t slices() const {
    constexpr int64_t kPlaces = 16, kParts = 2048;
    return std::max<int64_t>(
        1, std::min((places + kPlaces - 1) / kPlaces, kParts / std::max<int64_t>(images, 1)));
  }
};
constexpr int64_t kMostDeviceChannels = 1024;  // of a norm

// softmax(scale * query key^T + bias + mask) value in sequences as of kernels/attention.h. Rows of
// `maps` hold query, key and value of all heads.
struct DeviceAttention {
  int64_t outer = 0, tokens = 0, inner = 0, heads = 0, head_width = 0;
  float scale = 1;
  const float *query_scale = nullptr, *key_scale = nullptr;  // [head_width], both or neither
  const float* bias = nullptr;                               // [heads][tokens][tokens]
  const float* mask = nullptr;                               // [outer][tokens][tokens]
  const float* rotary = nullptr;                             // [tokens][pairs][2]
  int64_t pairs = 0;
  DeviceData maps;     // [rows][3 * heads * head_width]
  DeviceResult mixed;  // [rows][heads * head_width], of the type of maps; so are these:
  DeviceData d_mixed;
  DeviceResult d_maps;
  float* scale_sums = nullptr;  // [chunks()][heads][2][head_width], gradients of the scales
  float* bias_sums = nullptr;   // [chunks()][heads][tokens][tokens]; nullptr: not wanted

  int64_t sequences() const { return outer * inner; }
  // Parts of the sequences that a head's gradients are summed over by themselves.
  int64_t chunks() const {
    const int64_t parts = tokens <= 16 ? 2640 : 1320;
    return std::max<int64_t>(1,
                             std::min((sequences() + 3) / 4, parts / std::max<int64_t>(heads, 1)));
  }
};

// softmax over a query's own elements times softmax over places(key)^T value, times scale, within
// each frame. Rows of `maps` as above.
struct DeviceLinearAttention {
  int64_t frames = 0, places = 0, heads = 0, head_width = 0;
  float scale = 1;
  DeviceData maps;     // [frames][places][3 * heads * head_width]
  DeviceResult mixed;  // [frames][places][heads * head_width]
  DeviceData d_mixed;
  DeviceResult d_maps;
  // Of keys: greatest and sum of exponentials, [frames][heads][2][head_width]; and the contexts,
  // [frames][heads][head_width][head_width]. Written forward, read backward.
  float *statistics = nullptr, *context = nullptr;
  float* d_context = nullptr;  // backward, scratch, as context
  float* parts = nullptr;      // scratch: [frames][heads][slices()][part_size()]

  int64_t slices() const {
    constexpr int64_t kPlaces = 256, kParts = 1056;
    return std::max<int64_t>(1, std::min((places + kPlaces - 1) / kPlaces,
                                         kParts / std::max<int64_t>(frames * heads, 1)));
  }
  int64_t part_size() const { return head_width * (head_width + 2); }
};

// As kernels/depthwise.h.
struct DeviceDepthwise {
  int64_t clips = 0, steps = 0, height = 0, width = 0, channels = 0;
  const float *taps = nullptr, *bias = nullptr;  // [27][channels], [channels]
  DeviceData x;
  DeviceResult y;
  DeviceData dy;
  DeviceResult dx;
  float* sums = nullptr;  // [chunks()][28][channels]: gradients of the taps, then of the bias

  int64_t rows() const { return clips * steps * height; }
  int64_t chunks() const {
    constexpr int64_t kParts = 512;
    return std::max<int64_t>(1, std::min<int64_t>(rows(), kParts));
  }
};

// The nearest of `size` codes for each row, of equals the first.
struct DeviceSearch {
  int64_t count = 0, dim = 0, size = 0;
  const float *rows = nullptr, *codes = nullptr, *squares = nullptr;  // squares: |code|^2
  int64_t* ids = nullptr;
  // Scratch: [parts()][count], the best of each part of the codebook.
  float* least = nullptr;
  int32_t* best = nullptr;

  int64_t parts() const {
    constexpr int64_t kRows = 128, kCodes = 128, kBlocks = 264;
    const int64_t tiles = (count + kRows - 1) / kRows;
    return std::max<int64_t>(
        1, std::min((size + kCodes - 1) / kCodes, kBlocks / std::max<int64_t>(tiles, 1)));
  }
};

// gelu(h) or, gated, a * gelu(b) of rows (a, b), and its way back, which also makes y again.
struct DeviceActivation {
  int64_t rows = 0, hidden = 0;
  bool gated = false;
  DeviceData h;        // [rows][hidden], or [rows][2 * hidden] if gated; of one type with the rest
  DeviceResult y, dh;  // [rows][hidden], as h
  DeviceData dy;
};

// y = x + rows + bias over [rows][width].
struct DeviceResidual {
  int64_t rows = 0, width = 0;
  DeviceData x, branch;
  const float* bias = nullptr;  // nullptr: none
  DeviceResult y;               // of x's type
};

// Frame y_s of every clip from cleaner ones, as data/recipe/recipe makes it: a sum of them, a blur
// and noise, each left out where there is none, with the CPU's bits.
struct DeviceFrame {
  static constexpr int kMostParents = 64;
  int64_t clips = 0, height = 0, width = 0, channels = 0;
  float* frames = nullptr;  // [frames][clips][height][width][channels] grey levels; 0: the images
  int64_t frame = 1;        // the one to make
  int parents = 1;
  int parent[kMostParents] = {};
  bool sums = false;  // by weights and offset; else the only parent is taken as it is
  float weight[kMostParents] = {};
  float offset = 0;
  const float* blur = nullptr;  // [radius + 1], from its centre; nullptr: none
  int64_t radius = 0;
  float noise = 0;  // times N(0, 1) of each clip's key, at the Philox counters (block, item, draw)
  const uint32_t* keys = nullptr;  // [clips][2]
  const uint64_t* items = nullptr;
  const uint32_t* draws = nullptr;
  float *sum = nullptr, *columns = nullptr;  // memory of a frame of every clip, each
};

// Such frames as a loader gives them: the image last, rounded to bytes or fp16, in [-1, 1], and
// mirrored where that is wanted.
struct DeviceShow {
  int64_t clips = 0, frames = 0, height = 0, width = 0, channels = 0;
  const float* made = nullptr;  // as DeviceFrame::frames
  bool fp16 = false;
  const uint8_t* mirrored = nullptr;  // of each clip
  float* out = nullptr;               // [clips][frames][height][width][channels]
};

struct DeviceOperations {
  // They read and write host memory, as the tests' emulation does, and take CPU tensors.
  bool on_host = false;
  void (*norm)(const DeviceNorm&);
  void (*norm_back)(const DeviceNorm&);
  void (*attention)(const DeviceAttention&);
  void (*attention_back)(const DeviceAttention&);
  bool (*takes_attention)(const DeviceAttention&);  // whether it fits this device, both ways
  void (*linear_attention)(const DeviceLinearAttention&);
  void (*linear_attention_back)(const DeviceLinearAttention&);
  bool (*takes_linear_attention)(const DeviceLinearAttention&);
  void (*depthwise)(const DeviceDepthwise&);
  void (*depthwise_back)(const DeviceDepthwise&);
  void (*nearest_code)(const DeviceSearch&);
  void (*activation)(const DeviceActivation&);
  void (*activation_back)(const DeviceActivation&);
  void (*add_residual)(const DeviceResidual&);
  void (*frame)(const DeviceFrame&);
  void (*show)(const DeviceShow&);
};

}  // namespace lf
