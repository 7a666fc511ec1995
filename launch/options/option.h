// One row of a command's table of options. Parsing (arguments.h), the checks of a call (call.h),
// --help (help.h) and `lastframe list commands --json` derive from it, so that a range, a default
// or a condition is written once.
#pragma once

#include <cstdint>

namespace lf {

// What an option takes. Made by the functions below.
struct Value {
  enum Kind : uint8_t { kSwitch, kText, kInteger, kNumber, kRate, kWord, kSets, kConfig };
  Kind kind = kSwitch;
  const char* placeholder = "";  // "DIR"; "A B" takes two arguments; "" takes none
  int64_t low = 0, high = 0;     // kInteger: [low, high]
  double above = 0, most = 0;    // kNumber: (above, most]
  const char* words = "";        // kWord: "FP32|BF16"
  const char* config = "";   // kConfig: "evaluation.samples"; kSets: "source|recipe", or "" for all
  const char* endings = "";  // kText that is written to: ".png|.npy", "/" for a folder
};

inline constexpr int64_t kNoLimit = INT64_MAX;
inline constexpr Value kNoValue{};

constexpr Value text(const char* placeholder) {
  return {.kind = Value::kText, .placeholder = placeholder};
}
// A file or a folder to write, whose kind its name tells: ".png|.npy|/". A name with the ending of
// another kind of file is refused; one without any is not.
constexpr Value output(const char* placeholder, const char* endings) {
  return {.kind = Value::kText, .placeholder = placeholder, .endings = endings};
}
constexpr Value integer(int64_t low, int64_t high) {
  return {.kind = Value::kInteger, .placeholder = "N", .low = low, .high = high};
}
constexpr Value number(double above, double most) {
  return {.kind = Value::kNumber, .placeholder = "R", .above = above, .most = most};
}
// Of a network or of storage (rate.h).
constexpr Value rate() { return {.kind = Value::kRate, .placeholder = "RATE"}; }
constexpr Value word(const char* words) {
  return {.kind = Value::kWord, .placeholder = "NAME", .words = words};
}
// PATH=VALUE, any number of times; `groups` are those of the config that the command reads.
constexpr Value sets(const char* groups = "") {
  return {.kind = Value::kSets, .placeholder = "PATH=VALUE", .config = groups};
}
// Stands for --set PATH=VALUE: kind, range and default are those of run.proto. Without a
// placeholder it is a switch, which sets true.
constexpr Value of_config(const char* path, const char* placeholder = "") {
  return {.kind = Value::kConfig, .placeholder = placeholder, .config = path};
}

// What holds for an option beside its value. Conditions are alternatives, "--run|--fake": options
// that are given or, without dashes, the mode of the call, "for stores".
struct Terms {
  const char* fallback = "";       // the value where none is given
  const char* computed = "";       // instead: how that value is found, for people
  const char* only_with = "";      // has a meaning only with one of these; "": always
  const char* without = "";        // contradicts these options
  const char* required = nullptr;  // "": wherever it has a meaning; "--dry-run": unless that holds
  const char* needs = "";          // of what the call opens: "a model with classes" (see Need)
};

struct Option {
  const char* name;  // "--out"
  Value value;
  const char* help;  // a phrase without range, default and conditions
  Terms terms = {};
};

// A shared row under a condition of the command.
constexpr Option only_with(const char* condition, Option option) {
  option.terms.only_with = condition;
  return option;
}

constexpr Option without(const char* option, Option row) {
  row.terms.without = option;
  return row;
}

// ---- rows that commands share -------------------------------------------------------------------

inline constexpr Option kJsonOption = {"--json", kNoValue, "print one JSON object alone on stdout"};
inline constexpr Option kConfigOption = {"--config", text("FILE"),
                                         "config in protobuf text format (see configs/)"};
inline constexpr Option kSetOption = {
    "--set", sets(), "override one option of the config; repeatable (see `lastframe --help`)"};
// Of a command that reads only these groups of the config: another one would do nothing.
constexpr Option set_option_of(const char* groups) {
  return {"--set", sets(groups), "override one option of the config; repeatable"};
}
inline constexpr Option kPrecisionOption = {
    "--precision",
    word("FP32|BF16"),
    "arithmetic of the model; BF16 is faster and gives slightly different results",
    {.fallback = "FP32"}};
inline constexpr Option kThreadsOption = {
    "--threads",
    integer(1, 4096),
    "CPU threads of each rank; another number may round differently",
    {.fallback = "1"}};
// Over the config's train.threads, of benches.
inline constexpr Option kTrainThreadsOption = {"--threads", of_config("train.threads", "N"),
                                               "CPU threads of each rank"};

}  // namespace lf
