// Checks a config against a frame shape, walks the topology from the image outwards and rounds each
// frame once, for storage.
#include "data/recipe/recipe.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/frame_kernels.h"
#include "data/recipe/topology.h"

namespace lf {
namespace {

// Part of every store's identity: increased when the same options begin to give other bits.
constexpr int kArithmetic = 1;
constexpr int kMostFramesOfTables = 512;  // WINDOW and FULL keep frames^2 covariances
constexpr int64_t kMostPixels = int64_t{1} << 28;

void check_topology(const RecipeConfig& config, int frames) {
  const bool window = config.topology() == RecipeConfig::WINDOW;
  if (!window) {
    refuse_changed(config, "recipe", {"window"}, "recipe.topology is not WINDOW");
  }
  if ((window || config.topology() == RecipeConfig::FULL) && frames > kMostFramesOfTables) {
    fail(Code::kUsage, "recipe.frames is ", frames,
         " with recipe.topology=", RecipeConfig::Topology_Name(config.topology()),
         ", expected at most ", kMostFramesOfTables, "; CHAIN and STAR take more");
  }
}

// A video is already a clip, so every option that would make one is refused.
void check_video(const RecipeConfig& config, const ClipShape& video) {
  if (config.has_frames() && config.frames() != RecipeConfig().frames() &&
      config.frames() != video.frames) {
    fail(Code::kUsage, "recipe.frames is ", config.frames(), ", but the source's videos have ",
         video.frames, "; leave it out");
  }
  if (config.corruption_case() != RecipeConfig::CORRUPTION_NOT_SET) {
    fail(Code::kUsage, "the source holds videos of ", video.frames,
         " frames, which take no operator; leave recipe.",
         RecipeConfig::descriptor()
             ->FindFieldByNumber(static_cast<int>(config.corruption_case()))
             ->name(),
         " out");
  }
  refuse_changed(config, "recipe", {"topology", "window"}, "the source holds videos");
}

}  // namespace

struct Recipe::Plan {
  ClipShape shape;  // of one frame
  int frames = 1;
  bool video = false;
  Element element = Element::kUint8;
  RecipeConfig::Topology topology = RecipeConfig::CHAIN;
  int window = 1;
  int kept = 1;                  // corrupted frames needed to make the next
  std::unique_ptr<Operator> op;  // null if there is nothing to make
  std::string canonical;

  // Makes y_1 .. y_{T-1} of `image` and hands each to store(s, floats) when it is done.
  template <typename Store>
  void make(const float* image, const ClipKey& key, Store&& store) const;
};

template <typename Store>
void Recipe::Plan::make(const float* image, const ClipKey& key, Store&& store) const {
  const size_t count = floats_of(shape);
  // A ring of the frames still needed, and one being made.
  thread_local std::vector<float> ring;
  thread_local std::vector<const float*> parents;
  const size_t slots = static_cast<size_t>(kept) + 1;
  if (ring.size() < slots * count) ring.resize(slots * count);
  const auto slot = [&](int s) { return ring.data() + static_cast<size_t>(s) % slots * count; };
  for (int s = 1; s < frames; ++s) {
    parents.clear();
    for (const int j : parents_of(topology, window, s)) parents.push_back(j == 0 ? image : slot(j));
    float* out = slot(s);
    op->apply({s, parents, key, 0}, out);
    store(s, out);
  }
}

Recipe::Recipe(const RecipeConfig& config, const ClipShape& image) {
  auto plan = std::make_unique<Plan>();
  LF_CHECK(image.frames >= 1 && image.height >= 1 && image.width >= 1 && image.channels >= 1 &&
               int64_t{image.height} * image.width <= kMostPixels && image.channels <= 1024,
           "frame shape ", image.height, " x ", image.width, " x ", image.channels);
  plan->shape = image.image();
  plan->video = image.frames > 1;
  plan->frames = plan->video ? image.frames : config.frames();
  const std::string of_shape = str(" shape=", image.height, "x", image.width, "x", image.channels,
                                   " arithmetic=", kArithmetic);
  if (plan->video) {
    check_video(config, image);
    plan->canonical = str("frames=", plan->frames, " video", of_shape);
    plan_ = std::move(plan);
    return;
  }
  check_topology(config, plan->frames);
  plan->topology = config.topology();
  plan->window = config.window();
  if (plan->frames > 1) {
    const Setting setting{plan->shape, plan->frames - 1, plan->topology, plan->window, false};
    plan->op = make_operator(setting, config);
    plan->element = plan->op->bounds() == Bounds::kLost ? Element::kFp16 : Element::kUint8;
    plan->kept = plan->topology == RecipeConfig::FULL     ? plan->frames - 1
                 : plan->topology == RecipeConfig::WINDOW ? std::min(plan->window, plan->frames - 1)
                                                          : 1;
  }
  plan->canonical = str("frames=", plan->frames);
  if (plan->op != nullptr) {
    plan->canonical += str(" topology=", RecipeConfig::Topology_Name(plan->topology));
    if (plan->topology == RecipeConfig::WINDOW) plan->canonical += str(" window=", plan->window);
    plan->canonical += " " + plan->op->canonical();
  }
  plan->canonical += of_shape;
  plan_ = std::move(plan);
}

Recipe::~Recipe() = default;
Recipe::Recipe(Recipe&&) noexcept = default;
Recipe& Recipe::operator=(Recipe&&) noexcept = default;

int Recipe::frames() const { return plan_->frames; }
Element Recipe::element() const { return plan_->element; }
std::vector<FrameFormula> Recipe::formulas() const {
  std::vector<FrameFormula> all;
  for (int s = 1; s < plan_->frames && plan_->op != nullptr; ++s) {
    std::vector<int> parents = parents_of(plan_->topology, plan_->window, s);
    std::optional<FrameFormula> one = plan_->op->formula(s, parents.size());
    if (!one) return {};
    one->parents = std::move(parents);
    all.push_back(std::move(*one));
  }
  return all;
}

std::array<uint32_t, 2> Recipe::noise_key(uint64_t seed, int s) {
  CorruptionStep step;
  step.s = s;
  step.key.seed = seed;
  return stream_key(stream_of(step), 0);
}

bool Recipe::random() const { return plan_->op != nullptr && plan_->op->random(); }
size_t Recipe::clean_bytes() const { return floats_of(plan_->shape); }
size_t Recipe::corrupted_bytes() const {
  return static_cast<size_t>(plan_->frames - 1) * clean_bytes() *
         (plan_->element == Element::kFp16 ? sizeof(uint16_t) : sizeof(uint8_t));
}
std::string Recipe::canonical() const { return plan_->canonical; }

void Recipe::apply(const uint8_t* image, const ClipKey& key, void* corrupted) const {
  const Plan& plan = *plan_;
  if (plan.video) {
    std::memcpy(corrupted, image, corrupted_bytes());
    return;
  }
  if (plan.frames == 1) return;
  const size_t count = floats_of(plan.shape);
  thread_local std::vector<float> start;
  if (start.size() < count) start.resize(count);
  widen(image, start.data(), count);
  plan.make(start.data(), key, [&](int s, const float* frame) {
    const size_t at = static_cast<size_t>(plan.frames - 1 - s) * count;
    if (plan.element == Element::kFp16) {
      round_to_fp16(frame, static_cast<uint16_t*>(corrupted) + at, count);
    } else {
      round_to_grey(frame, static_cast<uint8_t*>(corrupted) + at, count);
    }
  });
}

void Recipe::apply_exact(const float* image, const ClipKey& key, float* corrupted) const {
  const Plan& plan = *plan_;
  LF_CHECK(!plan.video, "a video has no corrupted frames to make");
  const size_t count = floats_of(plan.shape);
  if (plan.frames == 1) return;
  plan.make(image, key, [&](int s, const float* frame) {
    std::copy_n(frame, count, corrupted + static_cast<size_t>(plan.frames - 1 - s) * count);
  });
}

}  // namespace lf
