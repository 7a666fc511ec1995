// A sweep as its file says it (sweep.proto): loading, overriding and checking it, and the arms that
// its axes make. Knows no config of a run (plan.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sweep.pb.h"

namespace lf {

// Loads the sweep and applies `sets` ("seeds=1"), whose relative paths are those of the current
// folder. Paths of configs and rows are then as this process opens them. Throws Code::kUsage: names
// that are missing, twice or unknown, ranges, cycles.
Sweep load_sweep(const std::string& path, const std::vector<std::string>& sets);

// What the axes make of the arms, in order.
struct ArmAt {
  Arm arm = {};           // of the file; nameless where the axes alone make the arms
  std::string name = {};  // "V-frames=4"
  std::map<std::string, std::string> at = {};  // "recipe.frames" -> "4"
  std::vector<std::string> set = {};           // of the arm, its bases first, then of the axes
  // The same by who set them: later ones may choose another of several groups.
  std::vector<std::vector<std::string>> choices = {};
  std::string file = {};  // its config's
};
std::vector<ArmAt> arms_of(const Sweep& sweep);

// Names NAME of ${NAME} in a text, and the text with the values in their places.
std::vector<std::string> placeholders_in(const std::string& text);
std::string with_placeholders(std::string text, const std::map<std::string, std::string>& values);

// What is trained first, each after those that it needs. Throws Code::kUsage for a cycle.
std::vector<const First*> firsts_in_order(const Sweep& sweep);

}  // namespace lf
