// What a subcommand is, and the table of them. A subcommand is one row in command_table.cc, which
// gives its options and help, and one function in the file of its family (store_commands.cc,
// train_commands.cc, ...). main.cc parses, prints help and turns errors into exit codes.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace lf {

enum Precision : int;  // run.proto's

struct Option {
  const char* name;   // "--out"
  const char* value;  // "DIR", or "" for a switch
  const char* help;   // what it does, its default and its range
};

class Arguments;

struct Command {
  const char* name;        // "build", or "bench comm" for one below a group
  const char* positional;  // "STORE", "[PREFIX]" or ""
  const char* summary;     // one line, for the list of commands
  const char* details;     // paragraphs for its --help
  const char* example;     // one or more command lines
  std::span<const Option> options;
  int (*run)(const Arguments&);  // returns the exit status
};

// Every subcommand, in the order people meet them.
std::span<const Command> command_table();

// The arguments of one subcommand, checked against its row: an unknown option is a usage error with
// the nearest name. Options may be written --name value or --name=value. --help is handled before.
class Arguments {
 public:
  Arguments(const Command& command, const std::vector<std::string>& words);

  bool has(const std::string& option) const;
  // The last value given, or `fallback`.
  std::string get(const std::string& option, const std::string& fallback = "") const;
  // Every value given, in order (--set).
  std::vector<std::string> all(const std::string& option) const;
  // A whole number in [low, high], or `fallback`.
  int64_t number(const std::string& option, int64_t fallback, int64_t low, int64_t high) const;
  // One of the words, the first if it was not given.
  std::string choice(const std::string& option, const std::vector<std::string>& words) const;
  // What --precision says, FP32 if nothing.
  Precision precision() const;
  // Like get(), but a usage error if it was not given.
  std::string required(const std::string& option) const;

  const std::vector<std::string>& positional() const { return positional_; }
  const Command& command() const { return *command_; }

 private:
  const Command* command_;
  std::vector<std::pair<std::string, std::string>> values_;
  std::vector<std::string> positional_;
};

std::string help_of_program();
std::string help_of_command(const Command& command);

}  // namespace lf
