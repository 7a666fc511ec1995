#include "sweep/rows.h"

#include <chrono>
#include <thread>

#include "base/error.h"
#include "base/json.h"

namespace lf {
namespace {

constexpr uint64_t kLargestRows = 1 << 28;
constexpr std::chrono::milliseconds kNap(20);

std::string text_of(FileSystem& files, const std::string& path) {
  return files.exists(path) ? read_file(files, path, kLargestRows) : "";
}

std::map<std::string, RunRow> parse_rows(const std::string& text, const std::string& path) {
  std::map<std::string, RunRow> rows;
  int number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    RunRow row = parse_row(line, str(printable(path), ", line ", number));
    rows[row.hash] = std::move(row);
  }
  return rows;
}

}  // namespace

RunRow parse_row(const std::string& line, const std::string& where) {
  RunRow row;
  int64_t seed = -1;
  row.json = line;
  row.hash = json_member(line, "hash");
  row.arm = json_member(line, "arm");
  const bool whole =
      line.ends_with('}') && !row.hash.empty() && parse(json_member(line, "seed"), &seed);
  for (const auto& [name, text] : json_members(json_member(line, "values"))) {
    double value = 0;
    if (parse(text, &value)) row.values[name] = value;
  }
  if (!whole || seed < 0 || row.values.empty()) {
    fail(Code::kUsage, where, " is no row of a finished run; remove the line");
  }
  for (const auto& [name, text] : json_members(json_member(line, "extractors")))
    row.extractors[name] = text;
  row.seed = static_cast<int>(seed);
  return row;
}

std::map<std::string, RunRow> read_rows(FileSystem& files, const std::string& path) {
  return parse_rows(text_of(files, path), path);
}

std::unique_ptr<LockFile> locked(FileSystem& files, const std::string& path) {
  while (true) {
    std::unique_ptr<LockFile> lock = files.open_lock(path);
    const LockFile::Lock state = lock->try_lock();
    if (state == LockFile::Lock::kUnsupported) return lock;
    if (state == LockFile::Lock::kHeld && lock->is_current()) return lock;
    std::this_thread::sleep_for(kNap);
  }
}

void add_row(FileSystem& files, const std::string& path, const RunRow& row) {
  files.make_folders(parent_folder(path));
  const std::unique_ptr<LockFile> lock = locked(files, path);
  std::string text = text_of(files, path);
  if (parse_rows(text, path).contains(row.hash)) return;
  if (!text.empty() && text.back() != '\n') text += '\n';
  publish_file(files, path, text + row.json + "\n");
}

}  // namespace lf
