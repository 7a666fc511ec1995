#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_write(const std::string& what, const std::string& path, int error) {
  const char* advice = error == ENOSPC || error == EDQUOT ? "; free some space and start again"
                       : error == EROFS || error == EACCES || error == EPERM
                           ? "; choose a folder you may write to"
                           : "";
  fail(Code::kStorage, "cannot ", what, " ", printable(path), ": ", std::strerror(error), advice);
}

class RealOutFile : public OutFile {
 public:
  RealOutFile(const std::string& path, int fd) : path_(path), fd_(fd) {}
  RealOutFile(const RealOutFile&) = delete;
  RealOutFile& operator=(const RealOutFile&) = delete;
  ~RealOutFile() override {
    if (fd_ >= 0) ::close(fd_);
  }
  void write(const void* data, size_t size) override {
    const auto* p = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = ::write(fd_, p, std::min<size_t>(size, 1 << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_write("write", path_, errno);
      p += n;
      size -= static_cast<size_t>(n);
      written_ += n;
    }
    start_writeback();
  }
  void sync() override {
    if (::fsync(fd_) != 0) fail_write("sync", path_, errno);
  }
  void close() override {
    const int fd = std::exchange(fd_, -1);
    if (fd >= 0 && ::close(fd) != 0) fail_write("close", path_, errno);
  }

 private:
  // Lets the disk start early, so that sync() has little left to do. A hint: what fails here fails
  // again in sync().
  void start_writeback() {
#if defined(__linux__)
    constexpr off_t kPiece = 8 << 20;
    if (written_ - started_ < kPiece) return;
    ::sync_file_range(fd_, started_, written_ - started_, SYNC_FILE_RANGE_WRITE);
    started_ = written_;
#endif
  }

  std::string path_;
  int fd_;
  off_t written_ = 0, started_ = 0;  // bytes given to the kernel, and by it to the disk
};

class RealLockFile : public LockFile {
 public:
  explicit RealLockFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail_write("open", path_, errno);
  }
  RealLockFile(const RealLockFile&) = delete;
  RealLockFile& operator=(const RealLockFile&) = delete;
  ~RealLockFile() override { ::close(fd_); }  // which also unlocks
  Lock try_lock() override {
    while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      return errno == EWOULDBLOCK ? Lock::kTaken : Lock::kUnsupported;
    }
    return Lock::kHeld;
  }
  bool is_current() const override {
    struct stat opened {
    }, named{};
    return ::fstat(fd_, &opened) == 0 && ::stat(path_.c_str(), &named) == 0 &&
           opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
  }
  void replace(std::string_view bytes) override {
    if (::ftruncate(fd_, 0) != 0) fail_write("truncate", path_, errno);
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::pwrite(fd_, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_write("write", path_, errno);
      at += static_cast<size_t>(n);
    }
    if (::fsync(fd_) != 0) fail_write("sync", path_, errno);
  }

 private:
  std::string path_;
  int fd_;
};

class RealInFile : public InFile {
 public:
  explicit RealInFile(const std::string& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) {
      const int error = errno;
      if (fd_ >= 0) ::close(fd_);
      fail(Code::kUsage, "cannot read ", printable(path), ": ", std::strerror(error));
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(fd_);
      fail(Code::kUsage, "cannot read ", printable(path), ": it is not a regular file");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  RealInFile(const RealInFile&) = delete;
  RealInFile& operator=(const RealInFile&) = delete;
  ~RealInFile() override { ::close(fd_); }
  uint64_t size() const override { return size_; }
  void read(uint64_t offset, void* into, size_t size) const override {
    auto* p = static_cast<char*>(into);
    while (size > 0) {
      const ssize_t n =
          ::pread(fd_, p, std::min<size_t>(size, 1 << 30), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(Code::kData, "cannot read ", printable(path_), ": ", std::strerror(errno));
      if (n == 0) {
        fail(Code::kData, printable(path_), " ends at byte ", offset, ", ", size,
             " bytes early; truncated?");
      }
      p += n;
      offset += static_cast<uint64_t>(n);
      size -= static_cast<size_t>(n);
    }
  }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

class RealFileSystem : public FileSystem {
 public:
  std::unique_ptr<OutFile> create(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) fail_write("create", path, errno);
    return std::make_unique<RealOutFile>(path, fd);
  }
  std::unique_ptr<OutFile> create_new(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) return nullptr;
    if (fd < 0) fail_write("create", path, errno);
    return std::make_unique<RealOutFile>(path, fd);
  }
  std::unique_ptr<InFile> open_read(const std::string& path) override {
    return std::make_unique<RealInFile>(path);
  }
  std::unique_ptr<LockFile> open_lock(const std::string& path) override {
    return std::make_unique<RealLockFile>(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      fail_write(str("rename ", printable(from), " to"), to, errno);
    }
  }
  void remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_write("remove", path, errno);
  }
  void remove_tree(const std::string& path) override {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) fail_write("remove", path, error.value());
  }
  void make_folders(const std::string& path) override {
    // Another process may remove the folder while the library checks that it is one; the library
    // then reports "not a directory".
    for (int attempt = 1;; ++attempt) {
      std::error_code error, ignored;
      fs::create_directories(path, error);
      if (!error) return;
      const bool gone = error == std::errc::not_a_directory && !fs::exists(path, ignored);
      if (!gone || attempt == 100) fail_write("create the folder", path, error.value());
    }
  }
  void sync_folder(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fail_write("open the folder", path, errno);
    const int error = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    // Some network file systems do not sync folders; there, rename alone is the promise they give.
    if (error != 0 && error != EINVAL && error != ENOTSUP) fail_write("sync", path, error);
  }
  bool info(const std::string& path, FileInfo* info) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return false;
      fail(Code::kUsage, "cannot look at ", printable(path), ": ", std::strerror(errno));
    }
    info->size = static_cast<uint64_t>(status.st_size);
    info->modified_ns = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec;
    info->is_folder = S_ISDIR(status.st_mode);
    return true;
  }
  std::vector<std::string> list(const std::string& folder) override {
    std::error_code error;
    std::vector<std::string> names;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      names.push_back(it->path().filename().string());
    }
    if (error) fail(Code::kUsage, "cannot list ", printable(folder), ": ", error.message());
    std::sort(names.begin(), names.end());
    return names;
  }
};

}  // namespace

FileSystem& real_file_system() {
  static RealFileSystem files;
  return files;
}

void publish_file(FileSystem& files, const std::string& path, std::string_view bytes) {
  publish_file(files, path, str(path, ".tmp-", ::getpid()),
               [&](OutFile& out) { out.write(bytes.data(), bytes.size()); });
}

void publish_file(FileSystem& files, const std::string& path, const std::string& tmp,
                  const std::function<void(OutFile&)>& write) {
  try {
    const std::unique_ptr<OutFile> out = files.create(tmp);
    write(*out);
    out->sync();
    out->close();
    files.rename(tmp, path);
  } catch (const Error&) {
    try {
      files.remove(tmp);      // a full disk is the likely reason: do not make it worse
    } catch (const Error&) {  // the first error is the one to report
    }
    throw;
  }
  files.sync_folder(parent_folder(path));
}

void publish_folder(FileSystem& files, const std::string& tmp, const std::string& path) {
  files.sync_folder(tmp);
  files.rename(tmp, path);
  files.sync_folder(parent_folder(path));
}

std::string read_file(FileSystem& files, const std::string& path, uint64_t limit) {
  const std::unique_ptr<InFile> in = files.open_read(path);
  if (in->size() > limit) {
    fail(Code::kUsage, printable(path), " has ", human_bytes(in->size()), ", at most ",
         human_bytes(limit), " were expected; is it the right file?");
  }
  std::string bytes(in->size(), '\0');
  in->read(0, bytes.data(), bytes.size());
  return bytes;
}

std::string safe_join(const std::string& root, const std::string& name, const std::string& what) {
  const auto refuse = [&](const char* why) {
    fail(Code::kData, what, ": the name '", printable(name), "' ", why,
         "; nothing outside its folder is read or written");
  };
  if (name.empty()) refuse("is empty");
  if (name.front() == '/') refuse("is absolute");
  if (name.find('\0') != std::string::npos) refuse("holds a NUL byte");
  for (const std::string& part : split(name, '/')) {
    if (part.empty() || part == "." || part == "..")
      refuse("has a part that is empty, '.' or '..'");
    if (part.size() > 255) refuse("has a part of over 255 bytes");
  }
  return root + "/" + name;
}

bool lies_under(const std::string& root, const std::string& path) {
  std::error_code error;
  const fs::path real_root = fs::weakly_canonical(root, error);
  if (error) return false;
  const fs::path real_path = fs::weakly_canonical(path, error);
  if (error) return false;
  const auto [at, ignored] =
      std::mismatch(real_root.begin(), real_root.end(), real_path.begin(), real_path.end());
  return at == real_root.end();
}

std::string parent_folder(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace lf
