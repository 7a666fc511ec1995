#include "launch/options/help.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "launch/options/call.h"
#include "launch/options/values.h"

namespace lf {
namespace {

constexpr size_t kWidth = 100, kColumn = 26;

// Wraps each line of `text` to kWidth; every line but the first begins with `indent` spaces.
std::string wrapped(const std::string& text, size_t indent) {
  const std::string margin = "\n" + std::string(indent, ' ');
  std::vector<std::string> lines;
  for (const std::string& line : split(text, '\n')) {
    std::string out;
    size_t column = indent;
    for (const std::string& word : split(line, ' ')) {
      if (!out.empty() && column + 1 + word.size() > kWidth) {
        out += margin;
        column = indent;
      } else if (!out.empty()) {
        out += " ";
        ++column;
      }
      out += word;
      column += word.size();
    }
    lines.push_back(std::move(out));
  }
  return join(lines, margin);
}

// " (1 to 64; default: 16; not with --other)".
std::string facts_of(const Option& option) {
  std::vector<std::string> facts;
  if (const std::string range = range_text(option); !range.empty()) facts.push_back(range);
  if (const std::string value = default_text(option); !value.empty()) {
    facts.push_back("default: " + value);
  }
  if (option.value.kind == Value::kConfig) facts.push_back(str("sets ", option.value.config));
  if (*option.terms.needs != '\0') facts.push_back(str("needs ", option.terms.needs));
  if (*option.terms.without != '\0')
    facts.push_back("not with " + listed(alternatives(option.terms.without)));
  if (option.terms.required != nullptr) {
    const std::string unless = listed(alternatives(option.terms.required));
    facts.push_back(unless.empty() ? "required" : "required unless " + unless);
  }
  return facts.empty() ? "" : " (" + join(facts, "; ") + ")";
}

std::string lines_of(const Option& option) {
  std::string head = str("  ", option.name, *option.value.placeholder == '\0' ? "" : " ",
                         option.value.placeholder);
  if (head.size() < kColumn) {
    head.resize(kColumn, ' ');
  } else {
    head += "\n" + std::string(kColumn, ' ');
  }
  return head + wrapped(option.help + facts_of(option), kColumn) + "\n";
}

std::string title_of(const std::string& condition) {
  if (condition.empty()) return "Options:";
  const std::vector<std::string> parts = alternatives(condition.c_str());
  return (is_option(parts.front()) ? "Options with " : "Options ") + listed(parts) + ":";
}

// Options of one condition stand together.
std::string options_text(const Command& command) {
  std::vector<std::pair<std::string, std::string>> groups;
  for (const Option& option : command.options) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& known) {
      return known.first == option.terms.only_with;
    });
    if (group == groups.end()) group = groups.insert(groups.end(), {option.terms.only_with, ""});
    group->second += lines_of(option);
  }
  std::stable_partition(groups.begin(), groups.end(),
                        [](const auto& group) { return group.first.empty(); });
  std::string text;
  for (const auto& [condition, lines] : groups) text += "\n" + title_of(condition) + "\n" + lines;
  return text;
}

// " (--run DIR | --fake PATH)".
std::string choice_text(const Command& command) {
  std::vector<std::string> parts;
  for (const std::string& name : alternatives(command.one_of)) {
    for (const Option& option : command.options) {
      if (name == option.name) parts.push_back(name + " " + option.value.placeholder);
    }
  }
  return parts.empty() ? "" : " (" + join(parts, " | ") + ")";
}

constexpr const char* kSetHelp =
    R"(--set PATH=VALUE overrides one option of the config; the quotes are for the shell:
  --set train.batch=64                 a number, word or text
  --set 'recipe.noise={t_max: 250}'    a group, as a file has it between its braces; what it leaves
                                       out is unset, by {} all of it
  --set recipe.blur.sigmas=0.5,1,2     a list; += appends, recipe.blur.sigmas.0=0.4 changes the
                                       first element
  --set 'recipe.composite.operators={blur {}},{noise {}}'   a list of groups, likewise; then
  --set recipe.composite.operators.1.noise.t_max=250        an option of the second one
What --set gives must do something: an option without a meaning in the config that results, or that
the command does not read, is refused. A config file is shared by commands and may hold more.
)";

std::string indented(const std::string& text) { return "  " + join(split(text, '\n'), "\n  "); }

}  // namespace

std::string help_of_command(const Command& command) {
  std::string text =
      str("lastframe ", command.name, " - ", command.summary, "\n\nUsage: lastframe ", command.name,
          choice_text(command), command.options.empty() ? "" : " [options]",
          *command.positional == '\0' ? "" : " ", command.positional, "\n");
  if (*command.details != '\0') text += "\n" + wrapped(command.details, 0) + "\n";
  text += options_text(command);
  return text + "\nExample:\n" + indented(command.example) + "\n";
}

std::string help_of_program(std::span<const Command* const> commands) {
  std::string text =
      "lastframe - trains image and video generators on pseudo videos\n\n"
      "Usage: lastframe COMMAND [options]\n\nCommands:\n";
  for (const Command* command : commands) {
    std::string head = str("  ", command->name);
    head.resize(std::max<size_t>(head.size() + 1, 16), ' ');
    text += head + command->summary + "\n";
  }
  return text +
         "\n`lastframe COMMAND --help` shows a command's options with their defaults and ranges, "
         "and\n"
         "examples. `lastframe list options` shows every option that a config file or --set may "
         "hold,\n"
         "`list options --basic` the few that most runs set, `list options learning rate` those "
         "that "
         "speak of it.\n\n" +
         kSetHelp +
         "\nExit status: 0 done, 1 bug, 2 usage or config, 3 data damaged, or much of a source "
         "left "
         "out,\n"
         "4 checkpoint unusable, 5 not finite, 6 peer lost or hung, 7 storage cannot be written,\n"
         "75 interrupted: start the same command again.\n";
}

}  // namespace lf
