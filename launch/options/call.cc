#include "launch/options/call.h"

#include <algorithm>

#include "base/text.h"
#include "launch/options/outputs.h"
#include "launch/options/values.h"

namespace lf {
namespace {

bool holds(const Arguments& arguments, const std::string& alternative) {
  return is_option(alternative) ? arguments.has(alternative) : alternative == arguments.mode();
}

bool has_meaning(const Arguments& arguments, const Option& option) {
  const std::vector<std::string> needed = alternatives(option.terms.only_with);
  return needed.empty() || std::any_of(needed.begin(), needed.end(), [&](const std::string& one) {
           return holds(arguments, one);
         });
}

const Option& row_of(const Arguments& arguments, const std::string& name) {
  for (const Option& option : arguments.command().options) {
    if (name == option.name) return option;
  }
  fail(Code::kBug, "the table of ", arguments.command().name, " has no ", name);
}

std::string with_value(const Option& option) {
  return *option.value.placeholder == '\0' ? std::string(option.name)
                                           : str(option.name, " ", option.value.placeholder);
}

// "--run DIR, --fake PATH or --codes FILE".
std::string with_values(const Arguments& arguments, const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const std::string& name : names) parts.push_back(with_value(row_of(arguments, name)));
  return listed(parts);
}

[[noreturn]] void refuse_without_meaning(const Arguments& arguments, const Option& option) {
  const std::vector<std::string> needed = alternatives(option.terms.only_with);
  const std::string& mode = arguments.mode();
  if (!is_option(needed.front())) {
    arguments.refuse(option.name, " has no meaning ", mode, "; it is ", listed(needed));
  }
  if (!alternatives(arguments.command().one_of).empty() && is_option(mode)) {
    arguments.refuse(option.name, " has no meaning with ", mode, "; it goes with ", listed(needed));
  }
  arguments.refuse(option.name, " has no meaning without ", listed(needed));
}

// Of Command::one_of those that have a meaning in the mode.
std::vector<std::string> choices_of(const Arguments& arguments) {
  std::vector<std::string> choices;
  for (const std::string& name : alternatives(arguments.command().one_of)) {
    if (has_meaning(arguments, row_of(arguments, name))) choices.push_back(name);
  }
  return choices;
}

void check_choice(const Arguments& arguments) {
  const std::vector<std::string> choices = choices_of(arguments);
  if (choices.empty()) return;
  const auto given = std::count_if(choices.begin(), choices.end(),
                                   [&](const std::string& name) { return arguments.has(name); });
  if (given == 1) return;
  arguments.refuse("give ", choices.size() == 1 ? "" : "one of ", with_values(arguments, choices),
                   "; see lastframe ", arguments.command().name, " --help");
}

void check_required(const Arguments& arguments, const Option& option) {
  if (option.terms.required == nullptr || arguments.has(option.name)) return;
  const std::vector<std::string> unless = alternatives(option.terms.required);
  for (const std::string& other : unless) {
    if (holds(arguments, other)) return;
  }
  arguments.refuse(with_value(option), " is required",
                   unless.empty() ? "" : ", or " + with_values(arguments, unless),
                   "; see lastframe ", arguments.command().name, " --help");
}

}  // namespace

void check_needs(const Arguments& arguments, const std::vector<Need>& needs) {
  for (const Option& option : arguments.command().options) {
    if (*option.terms.needs == '\0' || !arguments.has(option.name)) continue;
    const auto need = std::find_if(needs.begin(), needs.end(), [&](const Need& one) {
      return std::string_view(one.needs) == option.terms.needs;
    });
    LF_CHECK(need != needs.end(), "nobody knows whether there is ", option.terms.needs);
    if (need->there) continue;
    arguments.refuse(option.name, " has no meaning here: it needs ", need->needs, ", and ",
                     need->instead, "; leave it out");
  }
}

std::vector<std::string> alternatives(const char* text) {
  return *text == '\0' ? std::vector<std::string>{} : split(text, '|');
}

bool is_option(const std::string& alternative) { return alternative.starts_with("--"); }

std::string mode_of(const Arguments& arguments) {
  const Command& command = arguments.command();
  if (command.mode != nullptr) return command.mode(arguments);
  check_choice(arguments);
  for (const std::string& name : alternatives(command.one_of)) {
    if (arguments.has(name)) return name;
  }
  return "";
}

void check_call(const Arguments& arguments) {
  const std::span<const Option> options = arguments.command().options;
  for (const Option& option : options) {
    if (arguments.has(option.name) && !has_meaning(arguments, option)) {
      refuse_without_meaning(arguments, option);
    }
  }
  for (const Option& option : options) {
    if (!arguments.has(option.name)) continue;
    for (const std::string& other : alternatives(option.terms.without)) {
      if (arguments.has(other)) {
        arguments.refuse(option.name, " and ", other, " exclude each other; give one of them");
      }
    }
  }
  if (arguments.command().mode != nullptr) check_choice(arguments);
  for (const Option& option : options) {
    if (*option.value.endings != '\0' && arguments.has(option.name)) {
      check_output(arguments, option);
    }
  }
  for (const Option& option : options) {
    if (has_meaning(arguments, option)) check_required(arguments, option);
  }
}

}  // namespace lf
