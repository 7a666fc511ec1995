// The table of corruption operators: what one step of a recipe can do to an image. An Operator is
// prepared for a shape, a number of steps and a topology, is immutable, and makes frame y_s from
// its parents in the topology. Frames are floats in grey levels (frame_kernels.h), not rounded
// between steps. Knows nothing of storage. One .cc file a family, one row an operator.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "data/recipe/recipe.h"
#include "data/recipe/topology.h"
#include "run.pb.h"

namespace lf {

// What an operator is prepared for.
struct Setting {
  ClipShape image;
  int steps = 0;  // T - 1
  RecipeConfig::Topology topology = RecipeConfig::CHAIN;
  int window = 2;
  bool in_composite = false;  // the composite itself checks that STAR has randomness
};

// One frame to make.
struct CorruptionStep {
  int s = 1;                              // counted from the image
  std::span<const float* const> parents;  // parents_of(topology, window, s)
  ClipKey key;
  uint32_t place = 0;  // in a composite, so that equal operators draw different random numbers
};

// Can the operator leave [0, 255]: no; yes; no, and it brings values back into it.
enum class Bounds { kKept, kLost, kRestored };

class Operator {
 public:
  virtual ~Operator() = default;
  virtual void apply(const CorruptionStep& step, float* out) const = 0;
  // The formula of y_s without its parents' indices; nullopt unless y_s is a weighted sum, blur and
  // noise.
  virtual std::optional<FrameFormula> formula(int s, size_t parents) const { return {}; }
  virtual bool random() const = 0;  // do draws differ?
  virtual Bounds bounds() const { return Bounds::kKept; }
  // "blur(sigmas=0.4,0.5)": every parameter that the frames depend on.
  virtual std::string canonical() const = 0;
};

// One row of the table; `lastframe list corruptions` prints it.
struct CorruptionKind {
  const char* name;  // the field of RecipeConfig's oneof
  const char* help;
  std::vector<RecipeConfig::Topology> topologies;
  std::unique_ptr<Operator> (*make)(const Setting& setting, const RecipeConfig& config);
};
std::span<const CorruptionKind> corruption_kinds();

// The operator that `config` chooses, blur by default. Throws Code::kUsage on illegal options.
std::unique_ptr<Operator> make_operator(const Setting& setting, const RecipeConfig& config);

std::unique_ptr<Operator> make_blur(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_heat(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_noise(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_mask(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_pixelate(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_downsample(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_quantise(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_composite(const Setting& setting, const RecipeConfig& config);
std::unique_ptr<Operator> make_static(const Setting& setting, const RecipeConfig& config);

// What the operators share -----------------------------------------------------------------------

size_t floats_of(const ClipShape& shape);  // of one frame

// The random numbers of one frame, keyed by (seed, clip, draw, step, place).
Stream stream_of(const CorruptionStep& step);

// A buffer of the calling thread of at least `count` floats; slots 0..3 are four buffers.
float* thread_floats(int slot, size_t count);

// Adds scale * N(0, 1) from the step's stream.
void add_noise(const CorruptionStep& step, float scale, float* out, size_t count);

// Throws Code::kUsage if one of these options is not its default, as it would have no effect
// (`because`).
void refuse_changed(const google::protobuf::Message& config, const std::string& prefix,
                    std::initializer_list<const char*> options, const std::string& because);

// Throws Code::kUsage unless an explicit list has one value a step.
void check_list(const std::string& option, int given, int steps);

// "0.4,0.5,1"
std::string list_text(const std::vector<double>& values);

}  // namespace lf
