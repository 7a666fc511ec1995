// What a command of the program is: its words in the help, its table of options and its function.
// Each command's row stands in the file of its function; launch/commands.cc lists them.
#pragma once

#include <span>

#include "launch/options/option.h"

namespace lf {

class Arguments;

// What to say to a word that people try and that is no option here.
struct Hint {
  const char* word;  // "--resume"
  const char* text;  // a clause
};

struct Command {
  const char* name;             // "build", or "bench comm" for one of a group
  const char* positional = "";  // "STORE", "[PREFIX]", "STORE..." or ""
  const char* summary;          // one line of the list of commands
  const char* details = "";     // paragraphs of its --help, wrapped there
  const char* example;          // command lines
  std::span<const Option> options;
  int (*run)(const Arguments&);                     // returns the exit status
  const char* one_of = "";                          // "--run|--fake": exactly one must be given
  const char* (*mode)(const Arguments&) = nullptr;  // the mode of the call: "for stores"
  std::span<const Hint> hints = {};
  bool hands_on_sets = false;  // --set is for processes that it starts
};

}  // namespace lf
