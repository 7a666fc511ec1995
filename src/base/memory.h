// How this process treats memory it has freed, how much it has held and how often it asked for
// more.
#pragma once

#include <cstdint>

namespace lf {

// Keeps freed memory instead of giving it back to the kernel. glibc by itself maps every large
// block anew and unmaps it when freed, and the page faults cost an eager training step up to half
// of its time and the build of a store as much. No effect with other C libraries.
void keep_freed_memory();

uint64_t peak_memory_bytes();  // resident, since the process began
// Pages that the process had to ask the system for so far. A step that reuses what earlier ones
// freed adds none.
uint64_t page_faults();

}  // namespace lf
