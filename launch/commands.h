// The functions behind the rows of command_table.cc, by the file of their family. Each gets the
// checked arguments and returns the exit status; trouble is thrown.
#pragma once

#include "launch/command.h"

namespace lf {

// store_commands.cc
int run_build(const Arguments& arguments);
int run_verify(const Arguments& arguments);
int run_merge(const Arguments& arguments);
int run_export(const Arguments& arguments);
// store_inspect.cc
int run_inspect(const Arguments& arguments);
// checkpoint_commands.cc: what inspect and export do with the folder of a run or a checkpoint
bool is_run_or_checkpoint(const std::string& folder);
int inspect_checkpoints(const std::string& folder, bool as_json);
int export_checkpoint(const std::string& folder, const Arguments& arguments);
// train.cc
int run_train(const Arguments& arguments);
// evaluate.cc
int run_evaluate(const Arguments& arguments);
// sample.cc
int run_sample(const Arguments& arguments);
// features_commands.cc
int run_features(const Arguments& arguments);
// comm_commands.cc
int bench_comm(const Arguments& arguments);
// doctor.cc
int run_doctor(const Arguments& arguments);
// list.cc
int run_list(const Arguments& arguments);
// bench_frechet.cc
int bench_frechet(const Arguments& arguments);
// bench_load.cc
int bench_load(const Arguments& arguments);
// bench_recipe.cc
int bench_recipe(const Arguments& arguments);
// bench_step.cc
int bench_step(const Arguments& arguments);

// bench_sample.cc
int bench_sample(const Arguments& arguments);
// plan.cc
int run_plan(const Arguments& arguments);

}  // namespace lf
