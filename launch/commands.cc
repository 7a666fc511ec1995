#include "launch/commands.h"

namespace lf {

std::span<const Command* const> command_table() {
  static constexpr const Command* kCommands[] = {
      &kBuildCommand,       &kVerifyCommand,       &kInspectCommand,   &kMergeCommand,
      &kExportCommand,      &kImportCommand,       &kTrainCommand,     &kSweepCommand,
      &kEvaluateCommand,    &kSampleCommand,       &kFeaturesCommand,  &kReportCommand,
      &kDoctorCommand,      &kListCommand,         &kPlanCommand,      &kBenchLoadCommand,
      &kBenchRecipeCommand, &kBenchFrechetCommand, &kBenchStepCommand, &kBenchSampleCommand,
      &kBenchCommCommand,   &kBenchKernelsCommand,
  };
  return kCommands;
}

}  // namespace lf
