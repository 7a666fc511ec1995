// A checkpoint's folder as files: its name, its manifest (CheckpointManifest in record.proto), the
// check that it is whole, and its publication on rank 0. Knows no torch and no MPI.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "record.pb.h"

namespace lf {

class Life;

constexpr uint32_t kCheckpointFormat = 1;

std::string checkpoints_folder(const std::string& run_folder);  // RUN/checkpoints
std::string checkpoint_name(int64_t images);                    // "img-000000012800"
bool parse_checkpoint_name(const std::string& name, int64_t* images);

// True for what unfinished saves and removals of `life` and older lives leave among the
// checkpoints. An older life never touches what belongs to a newer one.
bool is_leftover_of(const std::string& name, int64_t life);

// Text with its own checksum, and back. Reading throws Code::kCheckpoint if anything is wrong; sets
// *newer_format in the one case that is not damage.
std::string print_manifest(const CheckpointManifest& manifest);
CheckpointManifest read_manifest(FileSystem& files, const std::string& folder,
                                 bool* newer_format = nullptr);

// How closely to look: sizes and headers, or every byte against its CRC.
enum class Depth { kQuick, kFull };

// The manifest of a folder that is whole: every file there, of its size, with the tensors the
// manifest lists. Otherwise Code::kCheckpoint naming file and fact.
CheckpointManifest verify_checkpoint(FileSystem& files, const std::string& folder, Depth depth,
                                     bool* newer_format = nullptr);

// The bytes of all its files.
uint64_t total_bytes(const CheckpointManifest& manifest);
// The manifest's number of that name, or `fallback`.
double number_of(const CheckpointManifest& manifest, const std::string& name, double fallback);
void set_number(CheckpointManifest& manifest, const std::string& name, double value);

// --- publication, on rank 0 ----------------------------------------------------------------------
// begin_checkpoint(); then every writer calls write_shards() into the folder (checkpoint.h); then,
// with all their records, commit_checkpoint(). The checkpoint appears with commit's rename; a crash
// or an error before it leaves a hidden folder, which the next begin or start removes.

// An empty hidden folder for a new checkpoint. Removes what earlier attempts of this life and of
// older ones left. Code::kUsage if a newer life has begun.
std::string begin_checkpoint(FileSystem& files, const std::string& run_folder, int64_t images,
                             const Life& life);

// Publishes: checks the records against the files, adds the index of Python's tools for a kind in
// several files, writes the manifest last, renames the folder into place and points
// RUN/latest at it. A checkpoint of the same position is replaced without a moment in which neither
// exists. Fills in format, life and time; returns the published folder.
std::string commit_checkpoint(FileSystem& files, const std::string& run_folder,
                              const std::string& hidden_folder, CheckpointManifest manifest,
                              const Life& life);

// Adds metrics found later, such as an evaluation's, beside the manifest; keep_best uses them.
void add_metrics(FileSystem& files, const std::string& folder,
                 const std::vector<NamedNumber>& numbers);
std::vector<NamedNumber> read_metrics(FileSystem& files, const std::string& folder);

// Whether a metric that the manifest awaits is not among these.
bool awaits_numbers(const CheckpointManifest& manifest, const std::vector<NamedNumber>& metrics);

}  // namespace lf
