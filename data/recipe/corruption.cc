// The table of corruption operators and what they share; `static`, the operator that does nothing.
#include "data/recipe/corruption.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "data/recipe/frame_kernels.h"

namespace lf {
namespace {

constexpr auto kChain = RecipeConfig::CHAIN;
constexpr auto kWindow = RecipeConfig::WINDOW;
constexpr auto kFull = RecipeConfig::FULL;
constexpr auto kStar = RecipeConfig::STAR;

class StaticOperator : public Operator {
 public:
  explicit StaticOperator(const Setting& setting) : count_(floats_of(setting.image)) {}
  void apply(const CorruptionStep& step, float* out) const override {
    std::memcpy(out, step.parents[0], count_ * sizeof(float));
  }
  bool random() const override { return false; }
  std::string canonical() const override { return "static()"; }

 private:
  size_t count_;
};

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

bool changed(const Message& config, const FieldDescriptor& field) {
  const google::protobuf::Reflection& r = *config.GetReflection();
  if (field.is_repeated()) return r.FieldSize(config, &field) > 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.GetDouble(config, &field) != field.default_value_double();
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetInt32(config, &field) != field.default_value_int32();
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(config, &field) != field.default_value_bool();
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.GetEnum(config, &field) != field.default_value_enum();
    default:
      LF_CHECK(false, "no such options in recipes: ", field.full_name());
  }
}

}  // namespace

std::span<const CorruptionKind> corruption_kinds() {
  static const CorruptionKind kinds[] = {
      {"blur", "Gaussian blur, sampled kernels", {kChain, kWindow, kFull, kStar}, make_blur},
      {"heat", "Gaussian blur as exact heat flow", {kChain, kWindow, kFull, kStar}, make_heat},
      {"noise", "Gaussian noise, VP or VE", {kChain, kWindow, kFull, kStar}, make_noise},
      {"mask", "dropped pixels or blocks", {kChain, kWindow, kFull, kStar}, make_mask},
      {"pixelate", "means of blocks", {kChain, kStar}, make_pixelate},
      {"downsample", "means of blocks, interpolated", {kChain, kStar}, make_downsample},
      {"quantise", "fewer grey levels", {kChain, kStar}, make_quantise},
      {"composite", "several operators in order", {kChain, kStar}, make_composite},
      {"static", "copies of the image (control)", {kChain, kStar}, make_static},
  };
  return kinds;
}

std::unique_ptr<Operator> make_operator(const Setting& setting, const RecipeConfig& config) {
  const auto* field = RecipeConfig::descriptor()->FindFieldByNumber(
      config.corruption_case() == RecipeConfig::CORRUPTION_NOT_SET
          ? RecipeConfig::kBlurFieldNumber
          : static_cast<int>(config.corruption_case()));
  for (const CorruptionKind& kind : corruption_kinds()) {
    if (field->name() != kind.name) continue;
    std::vector<std::string> legal;
    for (const auto topology : kind.topologies) {
      if (topology == setting.topology) return kind.make(setting, config);
      legal.push_back(RecipeConfig::Topology_Name(topology));
    }
    fail(Code::kUsage, "recipe.topology is ", RecipeConfig::Topology_Name(setting.topology),
         ", which recipe.", kind.name, " does not have; expected ", join(legal, " or "));
  }
  LF_CHECK(false, "no row for ", field->name());
}

std::unique_ptr<Operator> make_static(const Setting& setting, const RecipeConfig&) {
  return std::make_unique<StaticOperator>(setting);
}

size_t floats_of(const ClipShape& shape) { return shape.image().bytes(); }

Stream stream_of(const CorruptionStep& step) {
  return {step.key.seed, Purpose::kCorruption, step.key.clip, step.key.draw,
          static_cast<uint32_t>(step.s) | step.place << 16};
}

float* thread_floats(int slot, size_t count) {
  thread_local std::vector<float> memory[4];
  std::vector<float>& floats = memory[slot];
  if (floats.size() < count) floats.resize(count);
  return floats.data();
}

void add_noise(const CorruptionStep& step, float scale, float* out, size_t count) {
  constexpr size_t kPiece = 4096;  // stays in the first-level cache
  float values[kPiece];
  const Stream stream = stream_of(step);
  for (size_t at = 0; at < count; at += kPiece) {
    const size_t n = std::min(kPiece, count - at);
    normal(stream, at, n, values);
    add_scaled(values, scale, out + at, n);
  }
}

void refuse_changed(const Message& config, const std::string& prefix,
                    std::initializer_list<const char*> options, const std::string& because) {
  for (const char* option : options) {
    const FieldDescriptor* field = config.GetDescriptor()->FindFieldByName(option);
    LF_CHECK(field != nullptr, "option ", option);
    if (changed(config, *field)) {
      fail(Code::kUsage, prefix, ".", option, " is set, but ", because, "; remove one of the two");
    }
  }
}

void check_list(const std::string& option, int given, int steps) {
  if (given != steps) {
    fail(Code::kUsage, option, " has ", given, given == 1 ? " value" : " values", ", expected ",
         steps, " (recipe.frames - 1, cleanest step first)");
  }
}

std::string list_text(const std::vector<double>& values) {
  std::vector<std::string> parts;
  for (const double value : values) parts.push_back(json_number(value));
  return join(parts, ",");
}

}  // namespace lf
