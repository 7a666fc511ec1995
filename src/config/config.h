// Loads, overrides, checks and prints a Config (run.proto). Everything works by reflection over the
// message, so an option is defined once, in run.proto. Not a general settings library.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "run.pb.h"

namespace google::protobuf {
class Message;
}

namespace lf {

// Loads the config in file PATH ("": none) with its bases, then applies `sets`. Throws Code::kUsage
// on any error.
Config load_config(const std::string& path, const std::vector<std::string>& sets);

// Parses text of print_config(); `name` is for messages. Does not load bases.
Config parse_config(const std::string& text, const std::string& name);

// Applies each assignment in order, a later one over an earlier, and checks ranges. An assignment
// is "a.b=value"; a list takes "1,2,3", a group "{text format}", a list of groups "{...},{...}".
// "list+=value" appends, "list.0=value" and "list.0.option=value" change an element. Throws
// Code::kUsage, also if two assignments choose two options of which only one can be, or if an
// option that is set has no meaning in the config that results (option.proto's only_if).
void set_options(Config& run, const std::vector<std::string>& assignments);

// Applies one to any message whose options are documented, without a check of ranges.
void set_option(google::protobuf::Message& message, const std::string& assignment);

// Makes the paths absolute that a run opens again when it resumes: stores, tokenizers, networks of
// losses and metrics.
void make_paths_absolute(Config& run);

// Checks every value against its range. load_config() does so too.
void check_ranges(const google::protobuf::Message& message);

// Sets every unset option to its default and every unset group. Members of a oneof stay unset:
// choosing one is up to the user.
void fill_in_defaults(google::protobuf::Message& message);

// The config as text with all defaults, as --dry-run prints it and RUN/config.pbtxt holds it.
// Parsing it gives the same config. With `groups`, only those of the config: {"source"}.
std::string print_config(const Config& run, const std::vector<std::string>& groups = {});

// The same as one JSON object.
std::string config_json(const Config& run, const std::vector<std::string>& groups = {});

// A group of options on one line, without those that have their default.
std::string changed_options_text(const google::protobuf::Message& group);

// "train.lr: 0.0001 -> 0.0002", one line per option that differs, and one per group that only one
// of them has; with `leave_out_free` only options that a resumed run may not change.
std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            bool leave_out_free);

// An option of one config that another one has otherwise.
struct Contradiction {
  std::string path;   // "recipe.frames"
  std::string asked;  // "8"
  std::string held;   // "1"
};

// The options set in `asked` of which `held`, with its defaults, has another value. Unset options
// and empty groups ask for nothing.
std::vector<Contradiction> contradictions(const Config& asked, const Config& held);

// "train.batch" -> "32" of every option that is set other than to its default; a group that holds
// one, or was chosen among several, is "{}". Options that later versions add change nothing in it.
std::map<std::string, std::string> departures(const Config& run);

// A hash of all options that a resumed run may not change.
uint64_t config_fingerprint(const Config& run);

// What a value of an option of few means.
struct ValueDoc {
  std::string name;  // "BF16"
  std::string comment;
};

// Documentation of the options whose path begins with `prefix`.
struct OptionDoc {
  std::string path;      // "train.batch"
  std::string type;      // "int", "FP32|BF16", "list of float"
  std::string fallback;  // the default as text
  std::string range;     // "[1, 4096]" or ""
  std::string comment;
  std::vector<ValueDoc> values = {};  // of an option whose type is a list of names
  bool basic = false;                 // one of the few that most runs set
  std::string only_with = "";         // when it has a meaning (condition_text()); "": always
};
std::vector<OptionDoc> document_options(const std::string& prefix = "");
// The same of sweep.proto, lists of groups included.
std::vector<OptionDoc> document_sweep();

// For a name or path that is no option: the options with the same last name that share most of the
// path, at most three, "'model.dit.layers' or 'model.code_prior.layers'". "" if there is none.
std::string option_of_name(const std::string& path);
// ", did you mean 'train.optimizer.lr'?": option_of_name(), else the most similar option, or "".
std::string nearest_option(const std::string& path);

}  // namespace lf
