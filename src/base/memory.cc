#include "base/memory.h"

#include <malloc.h>
#include <sys/resource.h>

#include <limits>

namespace lf {

void keep_freed_memory() {
#if defined(__GLIBC__)
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  ::mallopt(M_TOP_PAD, 64 << 20);
#endif
}

namespace {

rusage usage() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage;
}

}  // namespace

uint64_t peak_memory_bytes() { return static_cast<uint64_t>(usage().ru_maxrss) * 1024; }

uint64_t page_faults() { return static_cast<uint64_t>(usage().ru_minflt); }

}  // namespace lf
