// Every command of the program. A command is one file, which holds its function, its options and
// its row, and one line here and in commands.cc.
#pragma once

#include <span>

#include "launch/options/command.h"

namespace lf {

extern const Command kBuildCommand;
extern const Command kVerifyCommand;
extern const Command kInspectCommand;
extern const Command kMergeCommand;
extern const Command kExportCommand;
extern const Command kImportCommand;
extern const Command kTrainCommand;
extern const Command kSweepCommand;
extern const Command kEvaluateCommand;
extern const Command kSampleCommand;
extern const Command kFeaturesCommand;
extern const Command kDoctorCommand;
extern const Command kReportCommand;
extern const Command kListCommand;
extern const Command kPlanCommand;
extern const Command kBenchLoadCommand;
extern const Command kBenchRecipeCommand;
extern const Command kBenchFrechetCommand;
extern const Command kBenchStepCommand;
extern const Command kBenchSampleCommand;
extern const Command kBenchCommCommand;
extern const Command kBenchKernelsCommand;

// In the order in which people meet them.
std::span<const Command* const> command_table();

}  // namespace lf
