#include "launch/options/arguments.h"

#include <algorithm>

#include "base/text.h"
#include "config/config.h"
#include "launch/options/call.h"
#include "launch/options/rate.h"
#include "launch/options/values.h"

namespace lf {
namespace {

const Option* find_option(const Command& command, const std::string& name) {
  for (const Option& option : command.options) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

}  // namespace

Arguments::Arguments(const Command& command, const std::vector<std::string>& words)
    : command_(&command) {
  for (size_t at = 0; at < words.size();) {
    const std::string& word = words[at];
    if (word == "--") {
      positional_.insert(positional_.end(), words.begin() + static_cast<int64_t>(at) + 1,
                         words.end());
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      positional_.push_back(word);
      ++at;
    } else {
      at = parse_option(words, at);
    }
  }
  check_positional();
  mode_ = mode_of(*this);
  check_call(*this);
}

// Returns where the next word is.
size_t Arguments::parse_option(const std::vector<std::string>& words, size_t at) {
  const std::string& word = words[at];
  const size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  const Option* option = find_option(*command_, name);
  if (option == nullptr) refuse_unknown(name);
  const size_t count = arguments_of(*option);
  std::vector<std::string> values;
  if (equals != std::string::npos) values.push_back(word.substr(equals + 1));
  if (values.size() > count) refuse(name, " takes no value");
  for (++at; values.size() < count; ++at) {
    // A second value is never an option: it was forgotten.
    if (at == words.size() || (!values.empty() && words[at].starts_with("--"))) {
      refuse(name, count == 1 ? " needs a value, " : " takes two values, ",
             option->value.placeholder);
    }
    values.push_back(words[at]);
  }
  for (const std::string& value : values) {
    const std::string expected = expected_instead(*option, value);
    if (!expected.empty()) refuse(name, " is '", printable(value), "', expected ", expected);
  }
  given_.push_back({option, std::move(values)});
  return at;
}

// Names what may be meant: by a hint of the command, an option of it, or one of the config.
void Arguments::refuse_unknown(const std::string& name) const {
  for (const Hint& hint : command_->hints) {
    if (name == hint.word) refuse("unknown option ", name, "; ", hint.text);
  }
  std::vector<std::string> known = {"--help"};
  for (const Option& other : command_->options) known.emplace_back(other.name);
  std::string near = did_you_mean(name, known);
  if (near.empty() && find_option(*command_, "--config") != nullptr && name.starts_with("--")) {
    std::string path = name.substr(2);  // "--batch-size" -> "batch_size", then "batch"
    std::replace(path.begin(), path.end(), '-', '_');
    near = option_of_name(path);
    if (near.empty()) near = option_of_name(path.substr(0, path.find('_')));
    if (!near.empty()) near = "; the config has " + near + ", to be given as --set NAME=VALUE";
  }
  refuse("unknown option ", printable(name), near, "; see lastframe ", command_->name, " --help");
}

// "A B [C]": two needed, three allowed; "A..." any number from one.
void Arguments::check_positional() const {
  size_t needed = 0, allowed = 0;
  for (const std::string& word : split(command_->positional, ' ')) {
    if (word.empty()) continue;
    ++allowed;
    if (word.front() != '[') ++needed;
    if (word.ends_with("...")) allowed = 1000;  // "A..." or "[A]..."
  }
  const size_t given = positional_.size();
  if (given >= needed && given <= allowed) return;
  if (allowed == 0) {
    const std::string word = printable(positional_.front());
    const bool config = word.ends_with(".pbtxt") && find_option(*command_, "--config") != nullptr;
    refuse("unexpected argument '", word, "'",
           config ? ", did you mean --config " + word + "?" : std::string(), "; see lastframe ",
           command_->name, " --help");
  }
  refuse(given, given == 1 ? " argument" : " arguments", " given, expected '", command_->positional,
         "'; see lastframe ", command_->name, " --help");
}

const Option& Arguments::row(const std::string& option) const {
  const Option* found = find_option(*command_, option);
  LF_CHECK(found != nullptr, "option ", option, " is not in the table of ", command_->name);
  return *found;
}

const Arguments::Given* Arguments::last(const Option& option) const {
  for (auto given = given_.rbegin(); given != given_.rend(); ++given) {
    if (given->option == &option) return &*given;
  }
  return nullptr;
}

bool Arguments::takes(const std::string& option) const {
  return find_option(*command_, option) != nullptr;
}

bool Arguments::has(const std::string& option) const { return last(row(option)) != nullptr; }

std::string Arguments::get(const std::string& option) const {
  const Given* given = last(row(option));
  return given == nullptr        ? row(option).terms.fallback
         : given->values.empty() ? ""
                                 : given->values[0];
}

int64_t Arguments::integer(const std::string& option) const {
  int64_t value = 0;
  LF_CHECK(parse(get(option), &value), "option ", option, " of ", command_->name,
           " has no default");
  return value;
}

int64_t Arguments::integer(const std::string& option, int64_t otherwise) const {
  return has(option) ? integer(option) : otherwise;
}

double Arguments::rate(const std::string& option) const {
  double value = 0;
  LF_CHECK(parse_rate(get(option), &value), "option ", option, " of ", command_->name,
           " has no default");
  return value;
}

double Arguments::number(const std::string& option) const {
  double value = 0;
  LF_CHECK(parse(get(option), &value), "option ", option, " of ", command_->name,
           " has no default");
  return value;
}

std::pair<std::string, std::string> Arguments::both(const std::string& option) const {
  const Given* given = last(row(option));
  LF_CHECK(given != nullptr && given->values.size() == 2, "option ", option);
  return {given->values[0], given->values[1]};
}

std::vector<std::string> Arguments::sets() const {
  std::vector<std::string> out;
  for (const Given& given : given_) {
    if (given.option->value.kind == Value::kSets) out.push_back(given.values[0]);
  }
  for (const Given& given : given_) {
    if (given.option->value.kind != Value::kConfig) continue;
    out.push_back(
        str(given.option->value.config, "=", given.values.empty() ? "true" : given.values[0]));
  }
  return out;
}

Precision Arguments::precision() const { return get("--precision") == "BF16" ? BF16 : FP32; }

Config config_of(const Arguments& arguments) {
  return load_config(arguments.get("--config"), arguments.sets());
}

}  // namespace lf
