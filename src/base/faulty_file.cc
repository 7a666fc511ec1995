// Keeps, for every path touched, the state that is certain to survive a power cut, and restores it
// in power_cut().
#include "base/faulty_file.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>

#include "base/error.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

}  // namespace

struct FaultyFileSystem::State {
  Fault fault;
  std::mutex mutex;
  uint64_t next = 0;
  bool dead = false;
  // What a folder's entry would lead to after a power cut: nothing, or these bytes. Absent from the
  // map: as on disk. `content` is what the file's own bytes would be, by current name.
  std::map<std::string, std::optional<std::string>> durable_entry;
  std::map<std::string, std::string> durable_content;
  std::set<std::string> new_folders;  // made, their parent not yet synced

  void ask(const std::string& kind, const std::string& path) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (dead || !fault({kind, path, next++})) {
      dead = true;
      throw PowerCut();
    }
  }

  // Before the entry `path` first changes: remember what a power cut would leave there.
  void remember_entry(const std::string& path) {
    if (durable_entry.contains(path)) return;
    const auto known = durable_content.find(path);
    durable_entry[path] =
        known != durable_content.end() ? std::optional<std::string>(known->second) : contents(path);
  }
};

namespace {

class FaultyOutFile : public OutFile {
 public:
  FaultyOutFile(std::shared_ptr<FaultyFileSystem::State> state, std::string path,
                std::unique_ptr<OutFile> out)
      : state_(std::move(state)), path_(std::move(path)), out_(std::move(out)) {}
  void write(const void* data, size_t size) override {
    state_->ask("write", path_);
    out_->write(data, size);
  }
  void sync() override {
    state_->ask("sync", path_);
    out_->sync();
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->durable_content[path_] = contents(path_).value_or("");
  }
  void close() override {
    state_->ask("close", path_);
    out_->close();
  }

 private:
  std::shared_ptr<FaultyFileSystem::State> state_;
  std::string path_;
  std::unique_ptr<OutFile> out_;
};

class FaultyLockFile : public LockFile {
 public:
  FaultyLockFile(std::shared_ptr<FaultyFileSystem::State> state, std::string path)
      : state_(std::move(state)),
        path_(std::move(path)),
        file_(real_file_system().open_lock(path_)) {}
  Lock try_lock() override {
    state_->ask("lock", path_);
    return file_->try_lock();
  }
  bool is_current() const override { return file_->is_current(); }
  void replace(std::string_view bytes) override {
    state_->ask("truncate", path_);
    file_->replace("");
    state_->ask("write", path_);
    file_->replace(bytes);
    state_->ask("sync", path_);
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->durable_content[path_] = std::string(bytes);
  }

 private:
  std::shared_ptr<FaultyFileSystem::State> state_;
  std::string path_;
  std::unique_ptr<LockFile> file_;
};

}  // namespace

FaultyFileSystem::FaultyFileSystem(Fault fault) : state_(std::make_shared<State>()) {
  state_->fault = std::move(fault);
}
FaultyFileSystem::~FaultyFileSystem() = default;

std::unique_ptr<OutFile> FaultyFileSystem::create(const std::string& path) {
  state_->ask("create", path);
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->remember_entry(path);
    state_->durable_content[path] = "";
  }
  return std::make_unique<FaultyOutFile>(state_, path, real_file_system().create(path));
}

std::unique_ptr<OutFile> FaultyFileSystem::create_new(const std::string& path) {
  state_->ask("create", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  std::unique_ptr<OutFile> out = real_file_system().create_new(path);
  if (out == nullptr) return nullptr;
  state_->durable_entry.try_emplace(path, std::nullopt);
  state_->durable_content[path] = "";
  return std::make_unique<FaultyOutFile>(state_, path, std::move(out));
}

std::unique_ptr<InFile> FaultyFileSystem::open_read(const std::string& path) {
  return real_file_system().open_read(path);
}

std::unique_ptr<LockFile> FaultyFileSystem::open_lock(const std::string& path) {
  state_->ask("open_lock", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!fs::exists(path)) state_->remember_entry(path);
  state_->durable_content.try_emplace(path, contents(path).value_or(""));
  return std::make_unique<FaultyLockFile>(state_, path);
}

void FaultyFileSystem::rename(const std::string& from, const std::string& to) {
  state_->ask("rename", to);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  State& s = *state_;
  std::error_code ignored;
  if (fs::is_directory(from, ignored)) {
    // Files inside move with the folder; until the parent is synced, a cut leaves the old name.
    std::vector<std::string> inside;
    for (const auto& entry : fs::recursive_directory_iterator(from)) {
      if (entry.is_regular_file()) inside.push_back(entry.path().string());
    }
    for (const std::string& old_name : inside) {
      const std::string new_name = to + old_name.substr(from.size());
      const auto entry = s.durable_entry.find(old_name);
      s.remember_entry(new_name);
      const auto content = s.durable_content.find(old_name);
      if (content != s.durable_content.end()) {
        s.durable_content[new_name] = content->second;
        s.durable_content.erase(old_name);
      } else {
        s.durable_content[new_name] = contents(old_name).value_or("");
      }
      if (entry == s.durable_entry.end()) s.durable_entry[old_name] = s.durable_content[new_name];
    }
    s.new_folders.insert(to);
  } else {
    s.remember_entry(from);
    s.remember_entry(to);
    const auto content = s.durable_content.find(from);
    s.durable_content[to] =
        content != s.durable_content.end() ? content->second : contents(from).value_or("");
    s.durable_content.erase(from);
  }
  real_file_system().rename(from, to);
}

void FaultyFileSystem::remove(const std::string& path) {
  state_->ask("remove", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->remember_entry(path);
  state_->durable_content.erase(path);
  real_file_system().remove(path);
}

void FaultyFileSystem::remove_tree(const std::string& path) {
  state_->ask("remove", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; ++it) {
    if (!it->is_regular_file()) continue;
    state_->remember_entry(it->path().string());
    state_->durable_content.erase(it->path().string());
  }
  real_file_system().remove_tree(path);
}

void FaultyFileSystem::make_folders(const std::string& path) {
  state_->ask("make_folders", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!fs::exists(path)) state_->new_folders.insert(path);
  real_file_system().make_folders(path);
}

void FaultyFileSystem::sync_folder(const std::string& path) {
  state_->ask("sync_folder", path);
  const std::lock_guard<std::mutex> lock(state_->mutex);
  State& s = *state_;
  // Entries directly in `path` are now as they are on disk, and so are those of a folder that was
  // renamed into it (its own folder was synced before the rename).
  std::set<std::string> settled;
  for (const std::string& folder : s.new_folders) {
    if (parent_folder(folder) == path) settled.insert(folder);
  }
  for (auto it = s.durable_entry.begin(); it != s.durable_entry.end();) {
    const std::string folder = parent_folder(it->first);
    const bool gone = !fs::exists(folder);
    it = folder == path || settled.contains(folder) || gone ? s.durable_entry.erase(it) : ++it;
  }
  for (const std::string& folder : settled) s.new_folders.erase(folder);
}

bool FaultyFileSystem::info(const std::string& path, FileInfo* info) {
  return real_file_system().info(path, info);
}
std::vector<std::string> FaultyFileSystem::list(const std::string& folder) {
  return real_file_system().list(folder);
}
uint64_t FaultyFileSystem::operations() const { return state_->next; }

void FaultyFileSystem::power_cut() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  State& s = *state_;
  s.dead = true;
  const auto restore = [](const std::string& path, const std::string& bytes) {
    fs::create_directories(parent_folder(path));
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  };
  for (const auto& [path, bytes] : s.durable_content) {
    if (fs::exists(path)) restore(path, bytes);
  }
  for (const auto& [path, bytes] : s.durable_entry) {
    if (bytes) {
      restore(path, *bytes);
    } else {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
  }
}

}  // namespace lf
