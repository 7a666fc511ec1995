// Which options have a meaning: by the conditions in run.proto before a call does anything, by
// what was read after it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "run.pb.h"

namespace lf {

// An option, or a group of them by the beginning of its path, that a command reads only under a
// condition of option.proto's only_if.
struct CallCondition {
  const char* path;
  const char* only_if;
};

// Throws Code::kUsage for an option that an assignment ("a.b=value") sets and that has no meaning
// in this config; of `call`, none in this call. Defaults are never refused.
void check_meaning(const Config& config, const std::vector<std::string>& assignments,
                   const std::vector<CallCondition>& call = {});

// Where assignments made `after` of `before` and chose another of several groups, such as another
// source: a sentence for each, with the options set in `before` that lose their meaning by it.
std::vector<std::string> replaced_choices(const Config& before, const Config& after);

// A condition of option.proto's only_if for people, with whole paths: "source.npy or
// source.frames". `group` is where the option stands: "source.window.".
std::string condition_text(const std::string& group, const std::string& only_if);

// Of the options that the assignments set, other than to their defaults, those that nothing has
// read since the program began: "train.batch".
std::vector<std::string> unread_options(const Config& config,
                                        const std::vector<std::string>& assignments);

// One line an option of the config: its path, whether it has a meaning in this config ("1" or "0")
// and whether it has been read. For tests of the conditions; lists of groups are left out.
std::string meanings_and_reads(const Config& config);

}  // namespace lf
