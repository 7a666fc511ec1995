// The words of a command line, parsed and checked against the table of the command.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "launch/options/command.h"

namespace lf {

class Config;
enum Precision : int;  // run.proto's

class Arguments {
 public:
  // Throws Code::kUsage in one sentence: unknown options, with the nearest name; values of a wrong
  // kind or out of range; options without a meaning in this call (call.h). Options are written
  // --name value or --name=value; of several the last counts, except for --set.
  Arguments(const Command& command, const std::vector<std::string>& words);

  bool takes(const std::string& option) const;  // has the command such an option?
  bool has(const std::string& option) const;
  // The value given, else the row's.
  std::string get(const std::string& option) const;
  int64_t integer(const std::string& option) const;
  // The value given, else `otherwise`, of options whose default is computed.
  int64_t integer(const std::string& option, int64_t otherwise) const;
  double number(const std::string& option) const;
  double rate(const std::string& option) const;  // bytes a second
  // Both arguments of an option that takes two.
  std::pair<std::string, std::string> both(const std::string& option) const;
  // "path=value" of every --set, then of the options that stand for an option of the config.
  std::vector<std::string> sets() const;
  Precision precision() const;

  // The mode of the call: the given one of Command::one_of, or what Command::mode found.
  const std::string& mode() const { return mode_; }
  const std::vector<std::string>& positional() const { return positional_; }
  const Command& command() const { return *command_; }

  // Throws Code::kUsage, "COMMAND: ...".
  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kUsage, command_->name, ": ", parts...);
  }

 private:
  struct Given {
    const Option* option;
    std::vector<std::string> values;
  };
  const Option& row(const std::string& option) const;
  const Given* last(const Option& option) const;
  size_t parse_option(const std::vector<std::string>& words, size_t at);
  [[noreturn]] void refuse_unknown(const std::string& name) const;
  void check_positional() const;

  const Command* command_;
  std::vector<Given> given_;
  std::vector<std::string> positional_;
  std::string mode_;
};

// The file of --config, under sets().
Config config_of(const Arguments& arguments);

}  // namespace lf
