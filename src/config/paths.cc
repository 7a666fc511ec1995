// Paths in a config. Those that a run opens again when it resumes are made absolute when it starts,
// so that it resumes from any folder. Paths of a source stay as written: they are part of what a
// store is, and only a build reads them.
#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <vector>

#include "config/config.h"
#include "config/reflect.h"

namespace lf {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::array<const char*, 9> kPaths = {"lf.TrainConfig.init",
                                               "lf.TrainConfig.store",
                                               "lf.TrainConfig.validation_store",
                                               "lf.CodePriorConfig.tokenizer",
                                               "lf.DiffusionConfig.tokenizer",
                                               "lf.PerceptualConfig.network",
                                               "lf.EvaluationConfig.extractor",
                                               "lf.EvaluationConfig.reference",
                                               "lf.EvaluationConfig.lpips"};

bool is_path(const FieldDescriptor& field, const std::string& value) {
  const auto* known = std::find(kPaths.begin(), kPaths.end(), field.full_name());
  if (known == kPaths.end() || value.empty()) return false;
  return field.name() != "extractor" || (value != "pixels" && value != "track");
}

void make_absolute_below(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection.ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    if (field->is_repeated()) continue;
    if (field->message_type() != nullptr) {
      make_absolute_below(*reflection.MutableMessage(&message, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      const std::string value = reflection.GetString(message, field);
      if (!is_path(*field, value)) continue;
      const auto path = std::filesystem::absolute(value).lexically_normal();
      reflection.SetString(&message, field, path.string());
    }
  }
}

}  // namespace

void make_paths_absolute(Config& run) { make_absolute_below(run); }

}  // namespace lf
