// The program's entry: finds the command, answers --help, and turns what a command throws into one
// line on stderr and the documented exit status.
#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/world.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/options/help.h"
#include "launch/output.h"
#include "launch/version.h"

namespace lf {
namespace {

// "bench comm" is two words.
const Command* find_command(const std::vector<std::string>& words, size_t* used) {
  for (const size_t count : {size_t{2}, size_t{1}}) {
    if (words.size() < count) continue;
    const std::string name = count == 2 ? words[0] + " " + words[1] : words[0];
    for (const Command* command : command_table()) {
      if (name == command->name) {
        *used = count;
        return command;
      }
    }
  }
  return nullptr;
}

std::string members_of_group(const std::string& group) {
  std::string text;
  for (const Command* command : command_table()) {
    if (std::string(command->name).starts_with(group + " ")) {
      text += str("  lastframe ", command->name, "   ", command->summary, "\n");
    }
  }
  return text;
}

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print(help_of_program(command_table()));
    return 0;
  }
  if (words[0] == "--version") {
    print(str("lastframe ", version(), "\n"));
    return 0;
  }
  size_t used = 0;
  const Command* command = find_command(words, &used);
  if (command == nullptr) {
    const std::string members = members_of_group(words[0]);
    if (!members.empty()) {
      const bool asked = words.size() == 2 && (words[1] == "--help" || words[1] == "-h");
      std::fputs(str("lastframe ", words[0], " is a group of commands:\n", members).c_str(),
                 asked ? stdout : stderr);
      return asked ? 0 : static_cast<int>(Code::kUsage);
    }
    std::vector<std::string> names;
    for (const Command* known : command_table()) names.emplace_back(known->name);
    fail(Code::kUsage, "there is no command '", printable(words[0]), "'",
         did_you_mean(words[0], names), "; see lastframe --help");
  }
  const std::vector<std::string> rest(words.begin() + static_cast<int64_t>(used), words.end());
  for (const std::string& word : rest) {
    if (word == "--help" || word == "-h") {
      print(help_of_command(*command));
      return 0;
    }
    if (word == "--") break;
  }
  return command->run(Arguments(*command, rest));
}

// Keeps of LibTorch's long message "Tried to allocate 5.25 GiB".
std::string gpu_is_full(const std::string& what) {
  const size_t begin = what.find("Tried"), end = what.find(". ", begin);
  const std::string request =
      begin == std::string::npos ? "" : " (" + printable(what.substr(begin, end - begin), 80) + ")";
  return str("the GPU's memory is full", request,
             "; use a smaller batch, or the same one in parts (train.accumulation), or "
             "train.recompute=true");
}

}  // namespace
}  // namespace lf

int main(int argc, char** argv) {
  lf::keep_freed_memory();
  const std::vector<std::string> words(argv + 1, argv + argc);
  int status = 1;
  std::string sentence;
  try {
    status = lf::run(words);
  } catch (const lf::Error& error) {
    sentence = error.what();
    status = error.exit_status();
  } catch (const std::bad_alloc&) {
    sentence = "out of memory; use a smaller batch or fewer ranks on this machine";
  } catch (const c10::OutOfMemoryError& error) {
    sentence = lf::gpu_is_full(error.what());
  } catch (const std::exception& error) {
    // LibTorch's messages carry a C++ stack after the first line; which is left out.
    const std::string what = error.what();
    sentence = lf::str("unexpected: ", lf::printable(what.substr(0, what.find('\n')), 500));
  }
  return lf::World::end(status, sentence);
}
