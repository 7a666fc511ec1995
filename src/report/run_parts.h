// Sections of a run's report that read more than its numbers: pictures, the store, options, the
// machine.
#pragma once

#include <string>
#include <vector>

#include "report/html.h"
#include "report/run_folder.h"

namespace lf {

// The previews over the run and the newest clips, moving. What cannot be shown becomes a sentence
// in `missing`.
void write_previews(Html& html, FileSystem& files, const RunFolder& run, uint64_t picture_bytes,
                    std::vector<std::string>& missing);
void write_data_of_run(Html& html, FileSystem& files, const RunFolder& run);
void write_options(Html& html, const RunFolder& run);
void write_machine(Html& html, const RunFolder& run);
void write_differences(Html& html, const std::vector<RunFolder>& runs);

}  // namespace lf
