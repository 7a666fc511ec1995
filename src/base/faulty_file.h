// The file system that tests break: the real one, with an error, a death or a power cut at any
// chosen operation.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace lf {

// An operation that is about to change something.
struct FileOperation {
  // create, write, sync, close, rename, remove, make_folders, sync_folder, open_lock, lock,
  // truncate
  std::string kind;
  std::string path;
  uint64_t number;  // counted from 0
};

// Forwards to the real file system, but first asks `fault`: it may throw (an error of the device)
// or return false (the process "dies" here: this and all later operations throw PowerCut and change
// nothing). power_cut() then drops what was not synced, as a machine that lost its power would:
// unsynced bytes of files, and created or renamed names in folders that were not synced.
class FaultyFileSystem : public FileSystem {
 public:
  struct PowerCut : std::exception {
    const char* what() const noexcept override { return "simulated power cut"; }
  };
  using Fault = std::function<bool(const FileOperation&)>;
  explicit FaultyFileSystem(Fault fault);
  ~FaultyFileSystem() override;

  std::unique_ptr<OutFile> create(const std::string& path) override;
  std::unique_ptr<OutFile> create_new(const std::string& path) override;
  std::unique_ptr<InFile> open_read(const std::string& path) override;
  std::unique_ptr<LockFile> open_lock(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void remove_tree(const std::string& path) override;
  void make_folders(const std::string& path) override;
  void sync_folder(const std::string& path) override;
  bool info(const std::string& path, FileInfo* info) override;
  std::vector<std::string> list(const std::string& folder) override;

  uint64_t operations() const;
  void power_cut();

  struct State;  // for faulty_file.cc only

 private:
  std::shared_ptr<State> state_;
};

}  // namespace lf
