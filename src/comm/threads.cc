#include "comm/threads.h"

#include "base/host.h"

namespace lf {

int threads_of_rank(const World& world, int asked) {
  return threads_for(asked, world.local_size());
}

}  // namespace lf
