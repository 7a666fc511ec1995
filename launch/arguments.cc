// Parsing of one subcommand's words and the help texts; see command.h.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "launch/command.h"
#include "run.pb.h"

namespace lf {
namespace {

const Option* find_option(const Command& command, const std::string& name) {
  for (const Option& option : command.options) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

// "A B [C]": two needed, three allowed; "A..." any number from one.
void check_positional(const Command& command, size_t given) {
  size_t needed = 0, allowed = 0;
  for (const std::string& word : split(command.positional, ' ')) {
    if (word.empty()) continue;
    ++allowed;
    if (word.front() != '[') ++needed;
    if (word.ends_with("...")) allowed = 1000;
  }
  if (given < needed || given > allowed) {
    fail(Code::kUsage, "lastframe ", command.name, ": ", given, " argument", given == 1 ? "" : "s",
         " given, expected '", command.positional, "'; see lastframe ", command.name, " --help");
  }
}

}  // namespace

Arguments::Arguments(const Command& command, const std::vector<std::string>& words)
    : command_(&command) {
  bool only_positional = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (only_positional || word.size() < 2 || word[0] != '-') {
      positional_.push_back(word);
      continue;
    }
    if (word == "--") {
      only_positional = true;
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const Option* option = find_option(command, name);
    if (option == nullptr) {
      std::vector<std::string> known = {"--help"};
      for (const Option& other : command.options) known.emplace_back(other.name);
      fail(Code::kUsage, "lastframe ", command.name, ": unknown option ", printable(name),
           did_you_mean(name, known), "; see lastframe ", command.name, " --help");
    }
    const bool takes_value = std::strlen(option->value) > 0;
    if (!takes_value && equals != std::string::npos) {
      fail(Code::kUsage, "lastframe ", command.name, ": ", name, " takes no value");
    }
    if (takes_value && equals == std::string::npos && i + 1 == words.size()) {
      fail(Code::kUsage, "lastframe ", command.name, ": ", name, " needs a value, ", option->value);
    }
    values_.emplace_back(name, !takes_value                  ? ""
                               : equals != std::string::npos ? word.substr(equals + 1)
                                                             : words[++i]);
  }
  check_positional(command, positional_.size());
}

bool Arguments::has(const std::string& option) const { return !all(option).empty(); }

std::vector<std::string> Arguments::all(const std::string& option) const {
  LF_CHECK(find_option(*command_, option) != nullptr, "option ", option, " is not in the row of ",
           command_->name);
  std::vector<std::string> out;
  for (const auto& [name, value] : values_) {
    if (name == option) out.push_back(value);
  }
  return out;
}

std::string Arguments::get(const std::string& option, const std::string& fallback) const {
  const std::vector<std::string> values = all(option);
  return values.empty() ? fallback : values.back();
}

std::string Arguments::choice(const std::string& option,
                              const std::vector<std::string>& words) const {
  const std::string chosen = get(option, words.front());
  if (std::find(words.begin(), words.end(), chosen) != words.end()) return chosen;
  fail(Code::kUsage, "lastframe ", command_->name, ": ", option, " is ", printable(chosen),
       ", expected ", join(words, " or "), did_you_mean(chosen, words));
}

Precision Arguments::precision() const {
  return choice("--precision", {"FP32", "BF16"}) == "BF16" ? BF16 : FP32;
}

std::string Arguments::required(const std::string& option) const {
  if (!has(option)) {
    fail(Code::kUsage, "lastframe ", command_->name, ": ", option, " ",
         find_option(*command_, option)->value, " is required; see lastframe ", command_->name,
         " --help");
  }
  return get(option);
}

int64_t Arguments::number(const std::string& option, int64_t fallback, int64_t low,
                          int64_t high) const {
  if (!has(option)) return fallback;
  int64_t value = 0;
  if (!parse(get(option), &value) || value < low || value > high) {
    fail(Code::kUsage, "lastframe ", command_->name, ": ", option, " is '", printable(get(option)),
         "', expected a whole number in [", low, ", ", high, "]");
  }
  return value;
}

std::string help_of_command(const Command& command) {
  std::string text =
      str("lastframe ", command.name, " - ", command.summary, "\n\nUsage: lastframe ", command.name,
          command.options.empty() ? "" : " [options]", *command.positional ? " " : "",
          command.positional, "\n");
  if (*command.details) text += str("\n", command.details, "\n");
  if (!command.options.empty()) text += "\nOptions:\n";
  for (const Option& option : command.options) {
    std::string head = str("  ", option.name, *option.value ? " " : "", option.value);
    if (head.size() < 26)
      head.resize(26, ' ');
    else
      head += "\n" + std::string(26, ' ');
    // Continuation lines of the help are indented under its first.
    std::string help = option.help;
    for (size_t at = 0; (at = help.find('\n', at)) != std::string::npos; at += 27) {
      help.insert(at + 1, std::string(26, ' '));
    }
    text += head + help + "\n";
  }
  if (*command.example) {
    std::string example = command.example;
    for (size_t at = 0; (at = example.find('\n', at)) != std::string::npos; at += 3) {
      example.insert(at + 1, "  ");
    }
    text += str("\nExample:\n  ", example, "\n");
  }
  return text;
}

std::string help_of_program() {
  std::string text =
      "lastframe - trains image and video generators on pseudo videos\n\n"
      "Usage: lastframe COMMAND [options]\n\nCommands:\n";
  for (const Command& command : command_table()) {
    std::string head = str("  ", command.name);
    head.resize(std::max<size_t>(head.size() + 1, 16), ' ');
    text += head + command.summary + "\n";
  }
  return text +
         "\nlastframe COMMAND --help shows a command's options with defaults, ranges and "
         "examples.\n"
         "lastframe list options shows every option a config file or --set may hold.\n\n"
         "Exit status: 0 done, 1 bug, 2 usage or config, 3 data damaged, 4 checkpoint unusable,\n"
         "5 not finite, 6 peer lost or hang, 7 storage cannot be written, 75 interrupted: start me "
         "again.\n";
}

}  // namespace lf
