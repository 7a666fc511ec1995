// Folders of images: sizes, labels, damage, links and hostile names, on small files made here.
#include <sys/stat.h>

#include "base/file.h"
#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

using Folder = SourceTest;

TEST_F(Folder, FoldersAreLabelsInTheOrderOfTheirNames) {
  add_image("b/2.png", grey(8, 8, 2));
  add_image("a/deep/er/1.PNG", grey(8, 8, 1));
  add_image("a-b/3.png", grey(8, 8, 3));
  add_image("top.png", grey(8, 8, 4));
  const auto source = open({"folder.path=" + folder_});
  EXPECT_EQ(source->label_names(), (std::vector<std::string>{"a", "a-b", "b"}));
  ASSERT_EQ(source->size(), 4u);
  std::vector<std::pair<std::string, int64_t>> seen;
  for (uint64_t i = 0; i < 4; ++i) seen.emplace_back(source->name_of(i), source->load(i).label);
  EXPECT_EQ(seen, (std::vector<std::pair<std::string, int64_t>>{
                      {"a-b/3.png", 1}, {"a/deep/er/1.PNG", 0}, {"b/2.png", 2}, {"top.png", -1}}));
  EXPECT_EQ(source->load(0).pixels, std::vector<uint8_t>(8 * 8 * 3, 3));
  EXPECT_TRUE(open({"folder.path=" + folder_, "folder.labels=false"})->label_names().empty());
  EXPECT_EQ(open({"folder.path=" + folder_, "channels=1"})->shape().bytes(), 64u);
}

TEST_F(Folder, SizeCropAndChannelsAreApplied) {
  Image image = grey(40, 60, 10);
  for (int y = 10; y < 20; ++y) {
    for (int x = 30; x < 40; ++x) image.pixels[static_cast<size_t>(y * 60 + x)] = 200;
  }
  add_image("1.png", image);
  const auto source = open({"folder.path=" + folder_, "crop.left=30", "crop.top=10",
                            "crop.width=10", "crop.height=10", "size=5", "channels=1"});
  EXPECT_EQ(source->load(0).pixels, std::vector<uint8_t>(25, 200));
  const auto wide = open({"folder.path=" + folder_, "size=4", "width=8"});
  EXPECT_EQ(wide->shape(), (ClipShape{1, 4, 8, 3}));
  EXPECT_NE(refusal({"folder.path=" + folder_, "crop.left=55", "crop.width=10", "crop.height=10"})
                .find("too few"),
            std::string::npos);
  EXPECT_EQ(refusal({"folder.path=" + folder_, "width=8"}).substr(0, 2), "2:");
  EXPECT_EQ(refusal({"folder.path=" + folder_, "channels=2"}).substr(0, 2), "2:");
}

TEST_F(Folder, SeveralSizesAreRefusedWithTheSizeToSet) {
  const auto expect_refusal = [&](const std::string& source, const std::string& words) {
    std::vector<std::string> sets = {source + ".path=" + folder_};
    if (source == "frames") sets.push_back("window.frames=1");
    const std::string text = refusal(sets);
    EXPECT_EQ(text.substr(0, 2), "2:") << text;
    EXPECT_NE(text.find(words), std::string::npos) << text;
  };
  add_image("v/1.png", grey(8, 8, 1));
  add_image("v/2.png", grey(8, 9, 1));
  put(at("v/3.png"), "no image");
  for (const char* source : {"folder", "frames"}) {
    expect_refusal(source,
                   "of 2 looked at, 1 of 8x8 and 1 of 9x8; set the one that all are to have, such "
                   "as source.size=8 ");
  }
  EXPECT_EQ(bad_item(*open({"folder.path=" + folder_, "size=8"}), 1), "");
  add_image("v/4.png", grey(8, 9, 1));
  expect_refusal("folder",
                 "2 of 9x8 and 1 of 8x8; set the one that all are to have, such as source.size=8 "
                 "and source.width=9 ");
  for (int i = 0; i < 6; ++i) add_image(str("w/", i, ".png"), grey(70 + i, 200, 1));
  expect_refusal("folder", "2 of 9x8, 1 of 8x8, 1 of 200x70 and 5 of 5 other sizes");
}

TEST_F(Folder, AnotherSizeThatWasNotSeenIsLeftOut) {
  add_image("1.png", grey(8, 8, 1));
  add_image("2.png", grey(8, 8, 1));
  const auto source = open({"folder.path=" + folder_});
  add_image("2.png", grey(8, 9, 1));
  EXPECT_NE(bad_item(*source, 1).find("set source.size"), std::string::npos);
}

TEST_F(Folder, BadImagesAreItemsWithAReason) {
  add_image("good.png", grey(4, 4, 7));
  for (const char* name : {"text.jpg", "truncated.jpg", "truncated.png", "huge.jpg", "huge.png"}) {
    fs::copy(fixture(name), at(name));
  }
  fs::copy(fixture("animated.gif"), at("gif.png"));
  put(at("empty.jpg"), "");
  const auto source = open({"folder.path=" + folder_, "size=4"});
  ASSERT_EQ(source->size(), 8u);
  for (uint64_t i = 0; i < source->size(); ++i) {
    const std::string why = bad_item(*source, i);
    EXPECT_EQ(why.empty(), source->name_of(i) == "good.png") << source->name_of(i) << ": " << why;
  }
}

TEST_F(Folder, NothingOutsideTheRootIsRead) {
  const std::string outside = folder_ + "-outside";
  fs::create_directories(outside);
  put(outside + "/secret.png", encode_png(grey(4, 4, 9)));
  add_image("in/real.png", grey(4, 4, 1));
  fs::create_symlink(outside + "/secret.png", at("in/out.png"));
  fs::create_symlink("real.png", at("in/same.png"));
  fs::create_symlink("nowhere.png", at("in/dangling.png"));
  fs::create_symlink(outside, at("linked"));
  fs::create_symlink(folder_, at("in/loop"));
  ASSERT_EQ(::mkfifo(at("in/pipe.png").c_str(), 0600), 0);
  const auto source = open({"folder.path=" + folder_});
  std::vector<std::string> names;
  for (uint64_t i = 0; i < source->size(); ++i) names.push_back(source->name_of(i));
  EXPECT_EQ(names, (std::vector<std::string>{"in/dangling.png", "in/out.png", "in/real.png",
                                             "in/same.png"}));
  EXPECT_NE(bad_item(*source, 0), "");
  EXPECT_NE(bad_item(*source, 1).find("follow_links=true reads it"), std::string::npos);
  EXPECT_EQ(bad_item(*source, 2), "");
  EXPECT_EQ(bad_item(*source, 3), "");
  // A file that turns into a link out, or a pipe, after the folder was listed.
  fs::remove(at("in/real.png"));
  fs::create_symlink(outside + "/secret.png", at("in/real.png"));
  EXPECT_NE(bad_item(*source, 2).find("out of the source's folder"), std::string::npos);
  fs::remove(at("in/same.png"));
  ASSERT_EQ(::mkfifo(at("in/same.png").c_str(), 0600), 0);
  EXPECT_NE(bad_item(*source, 3).find("not a regular file"), std::string::npos);
  fs::remove_all(outside);
}

TEST_F(Folder, LinksAreFollowedOnRequest) {
  const std::string outside = folder_ + "-outside";
  fs::create_directories(outside + "/deep");
  put(outside + "/deep/far.png", encode_png(grey(4, 4, 9)));
  add_image("cats/real.png", grey(4, 4, 1));
  fs::create_symlink(outside + "/deep/far.png", at("cats/out.png"));
  fs::create_symlink("nowhere.png", at("cats/dangling.png"));
  fs::create_symlink(outside, at("dogs"));
  fs::create_symlink(folder_, at("cats/loop"));
  fs::create_symlink(outside, outside + "/deep/itself");
  const auto source = open({"folder={ path: \"" + folder_ + "\" follow_links: true }"});
  std::vector<std::string> names;
  for (uint64_t i = 0; i < source->size(); ++i) {
    names.push_back(source->name_of(i));
    EXPECT_EQ(bad_item(*source, i), "");
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"cats/out.png", "cats/real.png", "dogs/deep/far.png"}));
  EXPECT_EQ(source->label_names(), (std::vector<std::string>{"cats", "dogs"}));
  fs::remove_all(outside);
}

TEST_F(Folder, HostileNamesAreEscaped) {
  add_image("new\nline.png", grey(4, 4, 1));
  add_image("\xff\xfe.png", grey(4, 4, 2));
  add_image(std::string(251, 'x') + ".png", grey(4, 4, 3));
  add_image("..almost.png/..png", grey(4, 4, 4));
  const auto source = open({"folder.path=" + folder_});
  ASSERT_EQ(source->size(), 3u) << "names that begin with a dot are hidden";
  for (uint64_t i = 0; i < 3; ++i) {
    const std::string name = source->load(i).name;
    EXPECT_EQ(name, source->name_of(i));
    EXPECT_TRUE(valid_utf8(name));
    EXPECT_EQ(name.find('\n'), std::string::npos);
  }
  EXPECT_EQ(source->name_of(0), "new\\x0aline.png");
  EXPECT_EQ(source->name_of(1).size(), 255u);
}

TEST_F(Folder, MissingAndEmptyFoldersAreUsageErrors) {
  EXPECT_NE(refusal({"folder.path=" + at("none")}).find("2: "), std::string::npos);
  EXPECT_NE(refusal({"folder.path=" + folder_}).find("holds no .jpg"), std::string::npos);
  EXPECT_EQ(refusal({"folder.labels=true"}).substr(0, 2), "2:");
  EXPECT_NE(refusal({"size=4"}).find("source.folder.path=FOLDER"), std::string::npos);
  put(at("only.jpg"), "not an image");
  EXPECT_EQ(refusal({"folder.path=" + folder_}).substr(0, 2), "3:");
}

}  // namespace
}  // namespace lf::source_test
