// How many threads this rank may use.
#pragma once

#include "comm/world.h"

namespace lf {

// What the scheduler gave this process, shared with the other ranks of the machine; `asked` if that
// is not 0.
int threads_of_rank(const World& world, int asked);

}  // namespace lf
