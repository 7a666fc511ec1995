// The one seam to the operating system's files: everything durable goes through a FileSystem, so
// that tests can inject errors and power cuts at every single operation (faulty_file.h). Also here:
// publishing a file or folder so that a reader sees all of it or nothing, and joining foreign names
// safely. Not for reading clips in the hot path, where the loader uses pread on its own
// descriptors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lf {

struct FileInfo {
  uint64_t size = 0;
  int64_t modified_ns = 0;
  bool is_folder = false;
};

// A file being written. Without sync() a power cut may lose its bytes.
class OutFile {
 public:
  virtual ~OutFile() = default;
  virtual void write(const void* data, size_t size) = 0;
  virtual void sync() = 0;
  virtual void close() = 0;
};

// A file being read at given offsets, by any number of threads.
class InFile {
 public:
  virtual ~InFile() = default;
  virtual uint64_t size() const = 0;
  // Reads exactly `size` bytes; throws Code::kData naming the file if it ends earlier.
  virtual void read(uint64_t offset, void* into, size_t size) const = 0;
};

// A file that one process at a time may hold locked (flock), as long as the object lives.
class LockFile {
 public:
  enum class Lock { kHeld, kTaken, kUnsupported };  // by us; by another; by no file system here

  virtual ~LockFile() = default;
  virtual Lock try_lock() = 0;
  // Whether the path still names this file; another process may have removed or replaced it.
  virtual bool is_current() const = 0;
  // Replaces the file's contents in place and syncs them. Cut short, they are torn or empty.
  virtual void replace(std::string_view bytes) = 0;
};

// Failures to write are Code::kStorage; a missing or unreadable file is Code::kUsage unless the
// caller says otherwise.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual std::unique_ptr<OutFile> create(const std::string& path) = 0;      // truncates
  virtual std::unique_ptr<OutFile> create_new(const std::string& path) = 0;  // null: it exists
  virtual std::unique_ptr<InFile> open_read(const std::string& path) = 0;
  virtual std::unique_ptr<LockFile> open_lock(const std::string& path) = 0;  // creates if absent
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove(const std::string& path) = 0;       // a file; absent is fine
  virtual void remove_tree(const std::string& path) = 0;  // a folder and all in it; absent is fine
  virtual void make_folders(const std::string& path) = 0;
  virtual void sync_folder(const std::string& path) = 0;
  virtual bool info(const std::string& path, FileInfo* info) = 0;        // false: there is none
  virtual std::vector<std::string> list(const std::string& folder) = 0;  // names, sorted

  bool exists(const std::string& path) {
    FileInfo ignored;
    return info(path, &ignored);
  }
};

FileSystem& real_file_system();

// Writes `bytes` to PATH so that a reader, or a machine that lost its power, finds either the old
// file or all of the new one: temporary name, write, sync, rename, sync of the folder.
void publish_file(FileSystem& files, const std::string& path, std::string_view bytes);

// The same for content written in pieces, under the temporary name TMP on the same file system. If
// anything fails, TMP is removed.
void publish_file(FileSystem& files, const std::string& path, const std::string& tmp,
                  const std::function<void(OutFile&)>& write);

// Renames the finished folder TMP to PATH and makes that durable. The files inside must be synced.
void publish_folder(FileSystem& files, const std::string& tmp, const std::string& path);

// The whole file; more than `limit` bytes is an Error, before anything is allocated.
std::string read_file(FileSystem& files, const std::string& path, uint64_t limit);

// ROOT/name for a name that came from a file or a foreign folder. Refuses (Code::kData) absolute
// names, "..", empty parts, NUL, names over 255 bytes a part; `what` names the owner in the
// message.
std::string safe_join(const std::string& root, const std::string& name, const std::string& what);

// True if PATH, links resolved, lies under ROOT, links resolved.
bool lies_under(const std::string& root, const std::string& path);

std::string parent_folder(const std::string& path);

}  // namespace lf
