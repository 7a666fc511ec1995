// The program's entry: finds the command, answers --help, and turns what a command throws into one
// line on stderr and the documented exit status.
#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/world.h"
#include "config/config.h"
#include "config/meaning.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/options/help.h"
#include "launch/options/values.h"
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

// The last resort against options that do nothing: what run.proto's conditions did not refuse and
// nothing has read. Only of data: the others' time may come in a later call of the run.
void warn_of_unread(const Arguments& arguments) {
  const std::vector<std::string> sets = arguments.sets();
  Config asked;
  for (const std::string& set : sets) set_option(asked, set);
  Config data;
  *data.mutable_source() = asked.source();
  *data.mutable_recipe() = asked.recipe();
  *data.mutable_store() = asked.store();
  *data.mutable_loader() = asked.loader();
  const std::vector<std::string> unread = unread_options(data, sets);
  if (!unread.empty()) {
    LF_WARN("this call has read no ", listed(unread), ": setting ",
            unread.size() == 1 ? "it" : "them", " did nothing");
  }
}

// A choice that --set takes from the config is said, since nothing else shows that it was made.
void tell_of_replaced(const Arguments& arguments, bool first) {
  if (!arguments.takes("--config") || !arguments.has("--config")) return;
  const std::string& file = arguments.get("--config");
  for (const std::string& sentence :
       replaced_choices(load_config(file, {}), load_config(file, arguments.sets()))) {
    if (first) LF_WARN(sentence);
  }
}

// Ends the command, and tells tests which options of a config it has read (tests/README.md).
int run_command(const Arguments& arguments) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const bool first = rank == nullptr || std::string(rank) == "0";
  start_log("lastframe", first ? 0 : std::atoi(rank));  // the same as the world's, once it is known
  tell_of_replaced(arguments, first);
  const int status = arguments.command().run(arguments);
  const char* path = std::getenv("LASTFRAME_OPTION_READS");
  if (path != nullptr && first) {
    const bool by_file = arguments.takes("--config");
    std::ofstream(path) << meanings_and_reads(by_file ? config_of(arguments)
                                                      : load_config("", arguments.sets()));
  }
  const bool dry = arguments.takes("--dry-run") && arguments.has("--dry-run");
  const bool ours = !arguments.command().hands_on_sets;
  if (status == 0 && first && !dry && ours) warn_of_unread(arguments);
  return status;
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
  return run_command(Arguments(*command, rest));
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
