// `lastframe plan --gpu`: what a training run takes on a cluster that need not be there.
#pragma once

#include "config/config.h"
#include "launch/options/arguments.h"

namespace lf {

int plan_run(const Arguments& arguments, Config config);

}  // namespace lf
