// The file seam: publishing, exclusive creation, locks, and names that must stay in their folder.
#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/text.h"
#include "tests/base/cut_off.h"
#include "tests/error_of.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

FileSystem& disk() { return real_file_system(); }

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string read(const std::string& name) const { return read_file(disk(), path(name), 1 << 20); }

  const std::string folder_ = str(::testing::TempDir(), "/lastframe-files-", ::getpid());
};

TEST_F(Files, APublishedFileReplacesTheOldOneAndLeavesNothingElse) {
  publish_file(disk(), path("a"), "old");
  EXPECT_EQ(read("a"), "old");
  publish_file(disk(), path("a"), std::string("new\0bytes", 9));
  EXPECT_EQ(read("a"), std::string("new\0bytes", 9));
  publish_file(disk(), path("empty"), "");
  EXPECT_EQ(disk().list(folder_), (std::vector<std::string>{"a", "empty"}));
  error_of(Code::kStorage, [&] { publish_file(disk(), path("no/folder"), "x"); });
}

TEST_F(Files, APublishedFileThatFailsLeavesTheOldOneAlone) {
  publish_file(disk(), path("a"), "old");
  const std::string why = error_of(Code::kData, [&] {
    publish_file(disk(), path("a"), path("a.part"), [](OutFile& out) {
      out.write("ne", 2);
      fail(Code::kData, "no more");
    });
  });
  EXPECT_EQ(why, "no more");
  EXPECT_EQ(read("a"), "old");
  EXPECT_EQ(disk().list(folder_), std::vector<std::string>{"a"});
}

class Publishing : public Files, public ::testing::WithParamInterface<Cut> {};

TEST_P(Publishing, CutOffAnywhereLeavesTheOldFileOrTheNewOne) {
  const std::string old_bytes(100, 'o'), new_bytes(5000, 'n');
  const auto publish = [&](uint64_t number) {
    SetUp();
    publish_file(disk(), path("file"), old_bytes);
    return cut_off(GetParam(), number,
                   [&](FileSystem& files) { publish_file(files, path("file"), new_bytes); });
  };
  const uint64_t operations = publish(kNever).operations;
  EXPECT_EQ(operations, 6U);
  for (uint64_t number = 0; number <= operations; ++number) {
    SCOPED_TRACE(number);
    const bool finished = publish(number).finished;
    EXPECT_EQ(finished, number == operations);
    const std::string found = read("file");
    EXPECT_TRUE(found == new_bytes || (!finished && found == old_bytes)) << found.size();
  }
}

TEST_P(Publishing, AFolderAppearsWholeOrNotAtAll) {
  const auto publish = [&](uint64_t number) {
    SetUp();
    return cut_off(GetParam(), number, [&](FileSystem& files) {
      files.make_folders(path("tmp"));
      for (const char* name : {"tmp/a", "tmp/b"}) {
        const auto out = files.create(path(name));
        out->write(name, 5);
        out->sync();
        out->close();
      }
      publish_folder(files, path("tmp"), path("done"));
    });
  };
  const uint64_t operations = publish(kNever).operations;
  for (uint64_t number = 0; number <= operations; ++number) {
    SCOPED_TRACE(number);
    const bool finished = publish(number).finished;
    if (finished) {
      EXPECT_EQ(read("done/a"), "tmp/a");
    }
    // A cut may leave the folder's new name, but then only without files or with all of them.
    if (!fs::exists(path("done/a")) && !fs::exists(path("done/b"))) continue;
    EXPECT_EQ(read("done/a"), "tmp/a");
    EXPECT_EQ(read("done/b"), "tmp/b");
  }
}

INSTANTIATE_TEST_SUITE_P(, Publishing, kEveryCut, name_of_cut);

TEST_F(Files, ExclusiveCreationHappensOnce) {
  const auto first = disk().create_new(path("a"));
  ASSERT_NE(first, nullptr);
  first->write("first", 5);
  first->close();
  EXPECT_EQ(disk().create_new(path("a")), nullptr);
  EXPECT_EQ(read("a"), "first");
  error_of(Code::kStorage, [&] { disk().create_new(path("no/folder")); });
}

TEST_F(Files, ALockIsHeldByOneUntilItsFileIsClosed) {
  auto first = disk().open_lock(path("lock"));
  EXPECT_EQ(first->try_lock(), LockFile::Lock::kHeld);
  first->replace("a long record");
  first->replace("short");
  EXPECT_EQ(read("lock"), "short");
  const auto second = disk().open_lock(path("lock"));
  EXPECT_EQ(read("lock"), "short") << "opening changes nothing";
  EXPECT_EQ(second->try_lock(), LockFile::Lock::kTaken);
  first.reset();
  EXPECT_EQ(second->try_lock(), LockFile::Lock::kHeld);
  EXPECT_TRUE(second->is_current());
  disk().remove(path("lock"));
  EXPECT_FALSE(second->is_current());
  const auto third = disk().open_lock(path("lock"));
  EXPECT_EQ(third->try_lock(), LockFile::Lock::kHeld) << "another file of that name";
  EXPECT_FALSE(second->is_current());
}

TEST_F(Files, ReadingStopsAtTheLimit) {
  publish_file(disk(), path("a"), "12345");
  EXPECT_EQ(read_file(disk(), path("a"), 5), "12345");
  EXPECT_TRUE(
      contains(error_of(Code::kUsage, [&] { read_file(disk(), path("a"), 4); }), "at most 4 B"));
  error_of(Code::kUsage, [&] { read_file(disk(), path("none"), 4); });
  error_of(Code::kUsage, [&] { read_file(disk(), folder_, 1 << 20); });
  char byte = 0;
  error_of(Code::kData, [&] { disk().open_read(path("a"))->read(5, &byte, 1); });
}

TEST(SafeJoin, JoinsNamesThatStayInTheirFolder) {
  EXPECT_EQ(safe_join("/store", "a", "the index"), "/store/a");
  EXPECT_EQ(safe_join("store", "train/cat/0001.png", "the index"), "store/train/cat/0001.png");
  EXPECT_EQ(safe_join("s", "..a", "the index"), "s/..a");
  EXPECT_EQ(safe_join("s", "a..", "the index"), "s/a..");
  EXPECT_EQ(safe_join("s", "\xc3\xa4 b\\c", "the index"), "s/\xc3\xa4 b\\c");
  EXPECT_EQ(safe_join("s", std::string(255, 'x') + "/y", "the index"),
            "s/" + std::string(255, 'x') + "/y");
}

TEST(SafeJoin, RefusesNamesThatLeaveItOrAreNone) {
  const std::vector<std::string> bad = {"",
                                        "/",
                                        "/etc/passwd",
                                        "..",
                                        "../a",
                                        "a/..",
                                        "a/../../b",
                                        ".",
                                        "./a",
                                        "a/.",
                                        "a//b",
                                        "a/",
                                        "//a",
                                        std::string("a\0b", 3),
                                        std::string(256, 'x'),
                                        "a/" + std::string(256, 'x')};
  for (const std::string& name : bad) {
    const std::string message =
        error_of(Code::kData, [&] { safe_join("/store", name, "the index of /store"); });
    EXPECT_EQ(message.find("the index of /store: the name '"), 0U) << message;
    EXPECT_EQ(message.find('\0'), std::string::npos);
  }
}

TEST_F(Files, LiesUnderFollowsLinks) {
  fs::create_directories(path("root/in"));
  fs::create_directories(path("outside"));
  fs::create_directories(path("root-like"));
  fs::create_directory_symlink(path("root/in"), path("root/to_inside"));
  fs::create_directory_symlink(path("outside"), path("root/to_outside"));
  fs::create_directory_symlink(path("root"), path("alias"));
  EXPECT_TRUE(lies_under(path("root"), path("root")));
  EXPECT_TRUE(lies_under(path("root"), path("root/in/deep/not/there/yet")));
  EXPECT_TRUE(lies_under(path("root"), path("root/to_inside/x")));
  EXPECT_TRUE(lies_under(path("root"), path("alias/in")));
  EXPECT_TRUE(lies_under(path("alias"), path("root/in")));
  EXPECT_TRUE(lies_under(path("root"), path("outside/../root/in")));
  EXPECT_FALSE(lies_under(path("root"), path("root/to_outside/x")));
  EXPECT_FALSE(lies_under(path("root"), path("root/in/../../outside")));
  EXPECT_FALSE(lies_under(path("root"), path("root-like"))) << "a common prefix is no folder";
  EXPECT_FALSE(lies_under(path("root/in"), path("root")));
}

TEST(ParentFolder, IsADotForABareName) {
  EXPECT_EQ(parent_folder("/a/b"), "/a");
  EXPECT_EQ(parent_folder("a/b/c"), "a/b");
  EXPECT_EQ(parent_folder("a"), ".");
}

}  // namespace
}  // namespace lf
