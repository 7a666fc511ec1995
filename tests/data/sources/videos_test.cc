// Source kind `videos`: clips of files, their labels and lists, broken ones.
#include "data/video/support.h"
#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

class VideosSourceTest : public SourceTest {
 protected:
  void SetUp() override {
    if (video_support().empty()) GTEST_SKIP() << "no FFmpeg";
    SourceTest::SetUp();
  }
  void add(const std::string& name, const std::string& from) const {
    fs::create_directories(fs::path(at(name)).parent_path());
    fs::copy_file(std::string(LF_FIXTURES) + "/videos/" + from, at(name));
  }
};

// R of the first pixel of each frame: 10 times the frame's number.
std::vector<int> numbers(const Source& source, uint64_t index) {
  const Sample sample = source.load(index);
  std::vector<int> frames;
  const size_t bytes = source.shape().image().bytes();
  for (size_t at = 0; at < sample.pixels.size(); at += bytes) {
    frames.push_back(sample.pixels[at] / 10);
  }
  return frames;
}

using Numbers = std::vector<int>;

TEST_F(VideosSourceTest, ClipsAreWindowsOfFramesAndFoldersAreLabels) {
  add("run/a.mp4", "ordered.mp4");
  add("walk/b.MKV", "ffv1.mkv");
  add("walk/c.gif", "palette.gif");
  put(at("walk/notes.txt"), "no video");
  const auto source = open({"videos.path=" + folder_, "window.frames=8", "window.hop=4"});
  ASSERT_EQ(source->size(), 10u) << "the gif is too short";
  EXPECT_EQ(source->shape(), (ClipShape{8, 16, 16, 3}));
  EXPECT_EQ(source->label_names(), (std::vector<std::string>{"run", "walk"}));
  EXPECT_EQ(source->load(0).label, 0);
  EXPECT_EQ(source->load(9).label, 1);
  EXPECT_EQ(source->name_of(6), "walk/b.MKV:4");
  EXPECT_EQ(source->group_of(6), "walk/b.MKV");
  // Overlapping clips, forwards and backwards, alone and one after another.
  for (const uint64_t index : {0, 1, 2, 1, 9, 5, 6, 4, 3}) {
    const int first = 4 * static_cast<int>(index % 5);
    EXPECT_EQ(numbers(*source, index), (Numbers{first, first + 1, first + 2, first + 3, first + 4,
                                                first + 5, first + 6, first + 7}));
  }
  const auto strided = open({"videos.path=" + at("run/a.mp4"), "window.frames=3", "window.stride=8",
                             "videos.labels=false", "size=8"});
  ASSERT_EQ(strided->size(), 1u);
  EXPECT_EQ(numbers(*strided, 0), (Numbers{0, 8, 16}));
  EXPECT_EQ(strided->load(0).label, -1);
}

TEST_F(VideosSourceTest, WhatIsBrokenIsAnItemWithAReason) {
  add("a.mp4", "ordered.mp4");
  put(at("b.mp4"), "no video");
  const auto source = open({"videos.path=" + folder_, "window.frames=12"});
  ASSERT_EQ(source->size(), 3u);
  EXPECT_EQ(bad_item(*source, 1), "");
  EXPECT_NE(bad_item(*source, 2).find("b.mp4: it is something else"), std::string::npos);
  EXPECT_NE(refusal({"videos.path=" + at("b.mp4")}).find("none of the 1 videos"),
            std::string::npos);
  EXPECT_NE(refusal({"videos.path=" + at("none")}).find("no folder"), std::string::npos);
}

TEST_F(VideosSourceTest, ListsAsUcfAndKineticsHaveThem) {
  add("videos/Run/v_a.avi", "raw.avi");
  add("videos/Archery/v_b.avi", "raw.avi");
  add("videos/Archery/v_c.avi", "raw.avi");
  const auto labels = [&](const std::string& list, const std::string& text) {
    put(at(list), text);
    const auto source = open({"videos.path=" + at("videos"), "videos.list=" + at(list)});
    std::string found;
    for (uint64_t i = 0; i < source->size(); ++i) {
      found += str(fs::path(source->group_of(i)).stem().string(), "=", source->load(i).label, " ");
    }
    return found + join(source->label_names(), ",");
  };
  EXPECT_EQ(labels("plain.txt", "Run/v_a.avi 2\r\nArchery/v_c.avi 1\n"), "v_c=1 v_a=2 ");
  EXPECT_EQ(labels("words.txt", "v_a.avi running\nv_b.avi bows\n"), "v_b=0 v_a=1 bows,running");
  put(at("classInd.txt"), "1 Archery\n2 Biking\n3 Run\n");
  EXPECT_EQ(labels("trainlist01.txt", "Run/v_a.avi 3\nArchery/v_c.avi 1\n"),
            "v_c=0 v_a=2 Archery,Biking,Run");
  EXPECT_EQ(labels("testlist01.txt", "Run/v_a.avi\nArchery/v_b.avi\n"),
            "v_b=0 v_a=2 Archery,Biking,Run");
  fs::remove(at("classInd.txt"));
  add("videos/abc_000010_000020.mp4", "ordered.mp4");
  add("videos/d-e_f.mp4", "ordered.mp4");
  fs::remove_all(at("videos/Run"));
  fs::remove_all(at("videos/Archery"));
  EXPECT_EQ(labels("train.csv",
                   "label,youtube_id,time_start,time_end,split\n"
                   "\"tying knot, slowly\",abc,10,20,train\n"
                   "archery,d-e_f,7,17,train\nlost,gone,1,11,train\n"),
            "abc_000010_000020=1 d-e_f=0 archery,tying knot, slowly");
  put(at("bad.csv"), "name,label\na,b\n");
  EXPECT_NE(
      refusal({"videos.path=" + at("videos"), "videos.list=" + at("bad.csv")}).find("youtube_id"),
      std::string::npos);
  put(at("none.txt"), "x.avi 1\n");
  EXPECT_NE(refusal({"videos.path=" + at("videos"), "videos.list=" + at("none.txt")})
                .find("none of the videos"),
            std::string::npos);
}

}  // namespace
}  // namespace lf::source_test
