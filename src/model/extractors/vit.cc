#include "model/extractors/vit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bicubic2d.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace lf {
namespace {

constexpr int64_t kImagesAtOnce = 8;
constexpr int64_t kDinoSide = 224;  // dgm-eval's, of pictures for FD-DINOv2
constexpr int64_t kLargestSide = 4096;
constexpr int64_t kLongestSides = 32;  // one over the other

// What publishers call the tensors. A name that ends with '.' or '_' is continued by weight or
// bias; "" is a tensor that the network does not have.
struct Naming {
  bool is_clip = false;
  const char *class_token = "", *positions = "", *patches = "", *registers = "", *first_norm = "";
  const char* blocks = "";  // followed by the number; what is below belongs to a block
  const char *norm1 = "", *qkv = "", *query = "", *key = "", *value = "", *out = "", *scale1 = "";
  const char *norm2 = "", *up = "", *gated_up = "", *down = "", *gated_down = "", *scale2 = "";
  const char *last_norm = "", *projection = "";  // of the whole again
  bool is_linear = false;                        // projection: stored as a linear map's [out, in]
  std::array<const char*, 8> ignored = {};       // beginnings of names: masks, the tower of texts
};

constexpr Naming kDino = {
    .class_token = "cls_token",
    .positions = "pos_embed",
    .patches = "patch_embed.proj.",
    .registers = "register_tokens",
    .blocks = "blocks.",
    .norm1 = "norm1.",
    .qkv = "attn.qkv.",
    .out = "attn.proj.",
    .scale1 = "ls1.gamma",
    .norm2 = "norm2.",
    .up = "mlp.fc1.",
    .gated_up = "mlp.w12.",
    .down = "mlp.fc2.",
    .gated_down = "mlp.w3.",
    .scale2 = "ls2.gamma",
    .last_norm = "norm.",
    .ignored = {"mask_token"},
};

constexpr Naming timm_dino() {
  Naming naming = kDino;
  naming.registers = "reg_token";
  return naming;
}

constexpr Naming kHuggingFaceDino = {
    .class_token = "embeddings.cls_token",
    .positions = "embeddings.position_embeddings",
    .patches = "embeddings.patch_embeddings.projection.",
    .registers = "embeddings.register_tokens",
    .blocks = "encoder.layer.",
    .norm1 = "norm1.",
    .query = "attention.attention.query.",
    .key = "attention.attention.key.",
    .value = "attention.attention.value.",
    .out = "attention.output.dense.",
    .scale1 = "layer_scale1.lambda1",
    .norm2 = "norm2.",
    .up = "mlp.fc1.",
    .gated_up = "mlp.weights_in.",
    .down = "mlp.fc2.",
    .gated_down = "mlp.weights_out.",
    .scale2 = "layer_scale2.lambda1",
    .last_norm = "layernorm.",
    .ignored = {"embeddings.mask_token"},
};

constexpr Naming kOpenAiClip = {
    .is_clip = true,
    .class_token = "visual.class_embedding",
    .positions = "visual.positional_embedding",
    .patches = "visual.conv1.",
    .first_norm = "visual.ln_pre.",
    .blocks = "visual.transformer.resblocks.",
    .norm1 = "ln_1.",
    .qkv = "attn.in_proj_",
    .out = "attn.out_proj.",
    .norm2 = "ln_2.",
    .up = "mlp.c_fc.",
    .down = "mlp.c_proj.",
    .last_norm = "visual.ln_post.",
    .projection = "visual.proj",
    .ignored = {"transformer.", "token_embedding.", "positional_embedding", "text_projection",
                "logit_", "ln_final.", "text.", "attn_mask"},
};

constexpr Naming kHuggingFaceClip = {
    .is_clip = true,
    .class_token = "vision_model.embeddings.class_embedding",
    .positions = "vision_model.embeddings.position_embedding.weight",
    .patches = "vision_model.embeddings.patch_embedding.",
    .first_norm = "vision_model.pre_layrnorm.",  // as it is spelt there
    .blocks = "vision_model.encoder.layers.",
    .norm1 = "layer_norm1.",
    .query = "self_attn.q_proj.",
    .key = "self_attn.k_proj.",
    .value = "self_attn.v_proj.",
    .out = "self_attn.out_proj.",
    .norm2 = "layer_norm2.",
    .up = "mlp.fc1.",
    .down = "mlp.fc2.",
    .last_norm = "vision_model.post_layernorm.",
    .projection = "visual_projection.weight",
    .is_linear = true,
    .ignored = {"text_model.", "text_projection.", "logit_",
                "vision_model.embeddings.position_ids"},
};

constexpr std::array<Naming, 5> kNamings = {kDino, timm_dino(), kHuggingFaceDino, kOpenAiClip,
                                            kHuggingFaceClip};

// Null: no network we know. Without its scales a network of facebook's names is not DINOv2.
const Naming* naming_of(const Weights& weights) {
  const Naming* found = nullptr;
  for (const Naming& naming : kNamings) {
    const std::string first = str(naming.blocks, "0.");
    if (!weights.has(naming.class_token) || !weights.has_any(first)) continue;
    if (*naming.scale1 != '\0' && !weights.has(first + naming.scale1)) continue;
    if (found == nullptr || weights.has(naming.registers)) found = &naming;
  }
  return found;
}

// The published sizes.
struct Size {
  const char* letter;
  int64_t width, depth, heads;
};
constexpr std::array<Size, 7> kDinoAndClip = {{{"s", 384, 12, 6},
                                               {"b", 768, 12, 12},
                                               {"l", 1024, 24, 16},
                                               {"g", 1536, 40, 24},
                                               {"h", 1280, 32, 16},
                                               {"g", 1408, 40, 16},
                                               {"bigg", 1664, 48, 16}}};

struct Linear {
  at::Tensor weight, bias;
  at::Tensor operator()(const at::Tensor& x) const { return at::linear(x, weight, bias); }
};

struct Norm {
  at::Tensor weight, bias;
  double epsilon;
  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, weight.sizes(), weight, bias, epsilon);
  }
};

enum class Activation { kGelu, kQuickGelu, kSwiGlu };

struct Block {
  at::Tensor operator()(const at::Tensor& x) const {
    const at::Tensor h = x + scaled(attention(norm1(x)), scale1);
    return h + scaled(down(activated(up(norm2(h)))), scale2);
  }
  static at::Tensor scaled(const at::Tensor& x, const at::Tensor& scale) {
    return scale.defined() ? x * scale : x;
  }
  at::Tensor attention(const at::Tensor& x_BNC) const {
    const at::Tensor qkv = in(x_BNC).unflatten(2, {3, heads, -1}).permute({2, 0, 3, 1, 4});
    return out(at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]).transpose(1, 2).flatten(2));
  }
  at::Tensor activated(const at::Tensor& x) const {
    switch (activation) {
      case Activation::kGelu:
        return at::gelu(x);
      case Activation::kQuickGelu:
        return x * at::sigmoid(1.702 * x);
      case Activation::kSwiGlu: {
        const std::vector<at::Tensor> halves = x.chunk(2, -1);
        return at::silu(halves[0]) * halves[1];
      }
    }
    return {};
  }

  Norm norm1, norm2;
  Linear in, out, up, down;
  at::Tensor scale1, scale2;
  int64_t heads;
  Activation activation;
};

// Takes the parts of a network from its weights.
class Reader {
 public:
  Reader(Weights& weights, const Naming& naming)
      : weights_(weights),
        naming_(naming),
        epsilon_(naming.is_clip ? 1e-5 : 1e-6),
        width_(weights.extent(naming.patches + std::string("weight"), 0)),
        patch_(weights.extent(naming.patches + std::string("weight"), 2)) {
    while (weights.has_any(str(naming.blocks, depth_, "."))) ++depth_;
    if (width_ < 1 || patch_ < 1) {
      fail(Code::kCheckpoint, printable(weights.file()), " has no tensor '", naming.patches,
           "weight' [width, 3, patch, patch], expected one; use a whole file of this network");
    }
    for (const Size& size : kDinoAndClip) {
      if (size.width == width_ && size.depth == depth_) size_ = &size;
    }
    heads_ = size_ != nullptr ? size_->heads : heads_in_metadata();
    if (naming.is_clip) activation_ = activation_in_metadata();
  }

  int64_t width() const { return width_; }
  int64_t patch() const { return patch_; }
  int64_t depth() const { return depth_; }
  Activation activation() const { return activation_; }
  // "vitb14", or "vit64x2p8" for a size that nobody published.
  std::string size_name() const {
    return size_ != nullptr ? str("vit", size_->letter, patch_)
                            : str("vit", width_, "x", depth_, "p", patch_);
  }

  at::Tensor take(const char* name, at::IntArrayRef shape) const {
    return *name == '\0' ? at::Tensor() : weights_.take(name, shape);
  }
  Norm norm(const std::string& name) const {
    return {weights_.take(name + "weight", {width_}), weights_.take(name + "bias", {width_}),
            epsilon_};
  }
  Block block(int64_t number) const {
    const std::string root = str(naming_.blocks, number, ".");
    Block block;
    block.heads = heads_;
    block.norm1 = norm(root + naming_.norm1);
    block.norm2 = norm(root + naming_.norm2);
    block.in = *naming_.qkv != '\0'
                   ? linear(root + naming_.qkv, 3 * width_, width_)
                   : joined({root + naming_.query, root + naming_.key, root + naming_.value});
    block.out = linear(root + naming_.out, width_, width_);
    if (*naming_.scale1 != '\0') {
      block.scale1 = weights_.take(root + naming_.scale1, {width_});
      block.scale2 = weights_.take(root + naming_.scale2, {width_});
    }
    add_feed_forward(root, block);
    return block;
  }

 private:
  Linear linear(const std::string& name, int64_t out, int64_t in) const {
    return {weights_.take(name + "weight", {out, in}), weights_.take(name + "bias", {out})};
  }
  Linear joined(const std::array<std::string, 3>& names) const {
    std::vector<at::Tensor> weights, biases;
    for (const std::string& name : names) {
      const Linear part = linear(name, width_, width_);
      weights.push_back(part.weight);
      biases.push_back(part.bias);
    }
    return {at::cat(weights), at::cat(biases)};
  }
  // SwiGLU's two maps of the input are stored as one, twice as high as the map back is wide.
  void add_feed_forward(const std::string& root, Block& block) const {
    const bool plain = *naming_.gated_up == '\0' || weights_.has_any(root + naming_.up);
    const std::string up = root + (plain ? naming_.up : naming_.gated_up);
    const std::string down = root + (plain ? naming_.down : naming_.gated_down);
    const int64_t hidden = weights_.extent(down + "weight", 1);
    const bool gated = weights_.extent(up + "weight", 0) == 2 * hidden && !naming_.is_clip;
    block.activation = gated ? Activation::kSwiGlu : activation_;
    block.up = linear(up, gated ? 2 * hidden : hidden, width_);
    block.down = linear(down, width_, hidden);
  }

  int64_t heads_in_metadata() const {
    int64_t heads = 0;
    const std::string text = weights_.metadata("heads");
    if (parse(text, &heads) && heads > 0 && width_ % heads == 0) return heads;
    fail(Code::kCheckpoint, printable(weights_.file()), " is a vision transformer of width ",
         width_, " and depth ", depth_, ", none of those published, and its metadata entry heads ",
         text.empty() ? "is missing" : str("is '", printable(text), "'"),
         "; expected a divisor of ", width_);
  }
  Activation activation_in_metadata() const {
    const std::string text = weights_.metadata("activation");
    if (text == "gelu") return Activation::kGelu;
    if (text == "quick_gelu") return Activation::kQuickGelu;
    if (!text.empty()) {
      fail(Code::kCheckpoint, printable(weights_.file()), ": the metadata entry activation is '",
           printable(text), "', expected gelu or quick_gelu");
    }
    LF_WARN(printable(weights_.file()),
            " does not say which GELU it was trained with, and is taken for OpenAI's QuickGELU; of "
            "LAION's CLIP make another file with tools/convert_weights clip --activation gelu");
    return Activation::kQuickGelu;
  }

  Weights& weights_;
  const Naming& naming_;
  double epsilon_;
  int64_t width_, patch_, depth_ = 0, heads_ = 0;
  const Size* size_ = nullptr;
  Activation activation_ = Activation::kGelu;
};

// The side of a square of so many patches, or 0.
int64_t side_of(int64_t patches) {
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(patches)) + 0.5);
  return side * side == patches ? side : 0;
}

// Positions of a grid, [old * old, C], at the places of another. DINOv2 passes the factor of a grid
// that is a tenth of a patch larger; its networks with registers pass the size, with antialias.
at::Tensor interpolated(const at::Tensor& grid, int64_t old, int64_t side, bool antialias) {
  if (old == side) return grid;
  const at::Tensor map = grid.view({1, old, old, -1}).permute({0, 3, 1, 2});
  const double factor = (static_cast<double>(side) + 0.1) / static_cast<double>(old);
  const at::Tensor made =
      antialias
          ? at::_upsample_bicubic2d_aa(map, {side, side}, /*align_corners=*/false)
          : at::upsample_bicubic2d(map, {side, side}, /*align_corners=*/false, factor, factor);
  return made.permute({0, 2, 3, 1}).reshape({side * side, -1});
}

class Vit : public CheckedExtractor {
 public:
  Vit(Weights& weights, const Naming& naming, PillowResize resize)
      : CheckedExtractor(weights.hash(), kImagesAtOnce, weights.device()),
        device_(weights.device()),
        is_clip_(naming.is_clip),
        resize_(std::move(resize)) {
    const Reader reader(weights, naming);
    dim_ = reader.width();
    patch_ = reader.patch();
    patches_ = weights.take(naming.patches + std::string("weight"), {dim_, 3, patch_, patch_});
    if (!is_clip_) patch_bias_ = weights.take(naming.patches + std::string("bias"), {dim_});
    const int64_t registers = weights.extent(naming.registers, 1);
    add_tokens(weights, reader, naming, registers);
    if (is_clip_) first_norm_ = reader.norm(naming.first_norm);
    for (int64_t i = 0; i < reader.depth(); ++i) blocks_.push_back(reader.block(i));
    last_norm_ = reader.norm(naming.last_norm);
    if (weights.has(naming.projection)) {
      dim_ = weights.extent(naming.projection, naming.is_linear ? 0 : 1);
      projection_ = naming.is_linear ? weights.take(naming.projection, {dim_, reader.width()}).t()
                                     : weights.take(naming.projection, {reader.width(), dim_});
    }
    for (const char* beginning : naming.ignored) {
      if (beginning != nullptr) weights.ignore(beginning);
    }
    weights.require_all_taken();
    name_ = str(is_clip_ ? "clip_" : "dinov2_", reader.size_name());
    if (is_clip_ && side_ != 224) name_ += str("_", side_);
    if (is_clip_ && reader.activation() == Activation::kGelu) name_ += "_gelu";
    if (registers > 0) name_ += "_reg";
  }

  std::string name() const override { return name_; }
  std::vector<ExtractorLayer> layers() const override { return {{"features", dim_}}; }
  int64_t frames() const override { return 1; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    const at::Tensor images = input_of(clips.select(1, 0));
    const at::Tensor patches =
        at::conv2d(images, patches_, patch_bias_, at::IntArrayRef{patch_, patch_})
            .flatten(2)
            .transpose(1, 2);
    at::Tensor x =
        at::cat({first_tokens_.expand({patches.size(0), -1, -1}), patches + positions_}, 1);
    if (is_clip_) x = first_norm_(x);
    for (const Block& block : blocks_) x = block(x);
    at::Tensor made = last_norm_(x.select(1, 0));
    if (projection_.defined()) made = made.matmul(projection_);
    return std::vector<at::Tensor>(wanted.size(), made);
  }

 private:
  // The class token with its position, then registers, which have none; positions of the patches.
  void add_tokens(Weights& weights, const Reader& reader, const Naming& naming, int64_t registers) {
    const bool flat = weights.extent(naming.positions, 2) == 0;  // CLIP's have no batch
    const int64_t count = weights.extent(naming.positions, flat ? 0 : 1);
    // timm adds the class token's position to its registered networks' class token.
    const bool without_class = side_of(count) > 0;
    const int64_t old = side_of(without_class ? count : count - 1);
    side_ = is_clip_ ? old * patch_ : kDinoSide;
    if (old < 1 || side_ > kLargestSide || side_ % patch_ != 0) {
      fail(Code::kCheckpoint, printable(weights.file()), ": '", naming.positions, "' has ", count,
           " positions of patches of ", patch_,
           " pixels, expected those of a class token and a square; the file is of another network");
    }
    const int64_t width = reader.width();
    const std::vector<int64_t> shape =
        flat ? std::vector<int64_t>{count, width} : std::vector<int64_t>{1, count, width};
    const at::Tensor all = weights.take(naming.positions, shape).view({count, width});
    const std::vector<int64_t> token =
        is_clip_ ? std::vector<int64_t>{width} : std::vector<int64_t>{1, 1, width};
    first_tokens_ = weights.take(naming.class_token, token).view({1, 1, width});
    if (!without_class) first_tokens_ = first_tokens_ + all[0];
    if (registers > 0) {
      first_tokens_ =
          at::cat({first_tokens_, weights.take(naming.registers, {1, registers, width})}, 1);
    }
    positions_ =
        interpolated(all.slice(0, without_class ? 0 : 1), old, side_ / patch_, registers > 0);
  }

  // As the networks' own transforms: Pillow's resize of bytes, then mean and deviation.
  at::Tensor input_of(const at::Tensor& images) const {
    int64_t height = side_, width = side_;
    if (is_clip_) {  // the shorter side; halves of pixels are dropped
      const int64_t shorter = std::min(images.size(1), images.size(2));
      if (std::max(images.size(1), images.size(2)) > kLongestSides * shorter) {
        fail(Code::kUsage, "the images have ", images.size(2), "x", images.size(1), " pixels, and ",
             name_, " looks at a square of them; give sides of at most ", kLongestSides, " to 1");
      }
      height = side_ * images.size(1) / shorter;
      width = side_ * images.size(2) / shorter;
    }
    at::Tensor x = images;
    if (images.size(1) != height || images.size(2) != width) {
      x = resize_(images, height, width, SourceConfig::BICUBIC);
    }
    const auto before = [](int64_t extra) {  // of a centre; halves to even
      return static_cast<int64_t>(std::nearbyint(static_cast<double>(extra) / 2));
    };
    x = x.narrow(1, before(height - side_), side_).narrow(2, before(width - side_), side_);
    const auto of_channels = [&](std::initializer_list<float> values) {
      return at::tensor(at::ArrayRef<float>(values)).view({1, 3, 1, 1}).to(device_);
    };
    const at::Tensor mean =
        of_channels(is_clip_ ? std::initializer_list<float>{.48145466F, .4578275F, .40821073F}
                             : std::initializer_list<float>{.485F, .456F, .406F});
    const at::Tensor deviation =
        of_channels(is_clip_ ? std::initializer_list<float>{.26862954F, .26130258F, .27577711F}
                             : std::initializer_list<float>{.229F, .224F, .225F});
    return (rgb_images(x.to(device_)) / 255 - mean) / deviation;
  }

  at::Device device_;
  bool is_clip_;
  PillowResize resize_;
  std::string name_;
  int64_t dim_ = 0, patch_ = 0, side_ = 0;
  at::Tensor patches_, patch_bias_, first_tokens_, positions_, projection_;
  Norm first_norm_, last_norm_;
  std::vector<Block> blocks_;
};

}  // namespace

bool is_vit(const Weights& weights) { return naming_of(weights) != nullptr; }

std::unique_ptr<Extractor> make_vit(Weights& weights, PillowResize resize) {
  const Naming* naming = naming_of(weights);
  LF_CHECK(naming != nullptr);
  return std::make_unique<Vit>(weights, *naming, std::move(resize));
}

}  // namespace lf
