#include "launch/options/describe.h"

#include <algorithm>
#include <string>
#include <vector>

#include "launch/options/call.h"
#include "launch/options/values.h"

namespace lf {
namespace {

void describe_option(const Option& option, Json& json) {
  const Terms& terms = option.terms;
  json.field("name", option.name).field("kind", kind_name(option));
  json.field("value", option.value.placeholder).field("arguments", arguments_of(option));
  json.field("range", range_text(option)).field("words", words_of(option));
  json.field("default", default_text(option));
  const bool config = option.value.kind == Value::kConfig || option.value.kind == Value::kSets;
  json.field("config", config ? option.value.config : "");
  json.field("only_with", alternatives(terms.only_with));
  json.field("needs", terms.needs).field("endings", alternatives(option.value.endings));
  json.field("without", alternatives(terms.without));
  json.field("required", terms.required != nullptr);
  json.field("required_unless", alternatives(terms.required == nullptr ? "" : terms.required));
  json.field("help", option.help);
}

}  // namespace

void describe(const Command& command, Json& json) {
  std::vector<std::string> modes;
  for (const Option& option : command.options) {
    for (const std::string& mode : alternatives(option.terms.only_with)) {
      const bool known = std::find(modes.begin(), modes.end(), mode) != modes.end();
      if (!is_option(mode) && !known) modes.push_back(mode);
    }
  }
  json.field("one_of", alternatives(command.one_of)).field("modes", modes);
  json.field("example", command.example);
  json.array("options", [&] {
    for (const Option& option : command.options) {
      json.object([&] { describe_option(option, json); });
    }
  });
}

}  // namespace lf
