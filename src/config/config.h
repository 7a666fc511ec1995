// Loads, overrides, checks and prints a Config (run.proto). Everything works by reflection over the
// message, so an option exists once: in run.proto. Called by launch; the parts of the program get
// their message by const reference. Not a general settings library.
#pragma once

#include <string>
#include <vector>

#include "run.pb.h"

namespace google::protobuf {
class Message;
}

namespace lf {

// The config in file PATH ("" for none) with its bases, then each "a.b=value" of `sets` in order,
// ranges checked. Anything wrong is Code::kUsage in one sentence.
Config load_config(const std::string& path, const std::vector<std::string>& sets);

// The config in `text`, which print_config() wrote; `name` says in errors where it stood. No bases.
Config parse_config(const std::string& text, const std::string& name);

// Applies one "a.b=value". Lists take "1,2,3"; messages take "{text format}".
void set_option(Config& run, const std::string& assignment);

// Every value against its range. `load_config` did this already.
void check_ranges(const google::protobuf::Message& message);

// The config as text with every default written out: what --dry-run prints and RUN/config.pbtxt
// holds. Reading it back gives the same config.
std::string print_config(const Config& run);

// The same as one JSON object.
std::string config_json(const Config& run);

// "train.lr: 0.0001 -> 0.0002", a line for each option in which two configs differ; if
// `free_only_allowed`, only those that a resumed run may not change.
std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            bool leave_out_free);

// A hash of everything a resumed run may not change.
uint64_t config_fingerprint(const Config& run);

// One line of documentation per option whose path begins with `prefix`.
struct OptionDoc {
  std::string path;      // "train.batch"
  std::string type;      // "int", "FP32|BF16", "list of float"
  std::string fallback;  // the default as text
  std::string range;     // "[1, 4096]" or ""
  std::string comment;
};
std::vector<OptionDoc> document_options(const std::string& prefix = "");

}  // namespace lf
