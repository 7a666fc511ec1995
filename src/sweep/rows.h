// Rows of finished runs: one JSON object a line, by the hash of what decided the run's numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/file.h"

namespace lf {

struct RunRow {
  std::string hash, arm;
  int seed = 0;
  std::map<std::string, double> values;           // by metric
  std::map<std::string, std::string> extractors;  // by metric: the hash of the weights
  std::string json;                               // the whole row
};

RunRow parse_row(const std::string& line,
                 const std::string& where);  // Code::kUsage unless it is one

// Finished runs by their hash; none if there is no file.
std::map<std::string, RunRow> read_rows(FileSystem& files, const std::string& path);

// Adds a row unless there is one of its hash, whoever else adds some: readers find whole lines.
void add_row(FileSystem& files, const std::string& path, const RunRow& row);

// Holds a file locked, waiting for whoever holds it; where the file system has no locks, does
// nothing.
std::unique_ptr<LockFile> locked(FileSystem& files, const std::string& path);

}  // namespace lf
