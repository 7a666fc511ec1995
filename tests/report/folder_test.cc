// Folders of runs and sweeps as they may be found: half written, damaged, hostile.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "report/board.h"
#include "report/report.h"
#include "report/run_folder.h"
#include "report/sweep_results.h"

namespace lf {
namespace {

class ReportFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + str("/report-", ::getpid(), "-",
                                 testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ + "/" + name).parent_path());
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  std::string page() const { return report_page(real_file_system(), {{folder_}, "test"}); }

  std::string folder_;
};

TEST_F(ReportFolder, LinesThatCannotBeReadAreCountedAndLeftOut) {
  write("metrics.jsonl",
        "{\"images\":10,\"loss\":1,\"images_per_second\":5}\n"
        "\xff\xfe garbage\n"
        "{\"images\":20,\"loss\":null}\n"
        "{\"images\":30,\"loss\":1e999}\n" +
            std::string(3 << 20, 'x') +
            "\n{\"images\":40,\"loss\":0.5,\"images_per_second\":10}\n{\"images\":50,\"lo");
  const RunFolder run = read_run(real_file_system(), folder_);
  ASSERT_NE(run.curve("loss"), nullptr);
  ASSERT_EQ(run.curve("loss")->points().size(), 2U);
  EXPECT_EQ(run.curve("loss")->points()[1].images, 40);
  EXPECT_EQ(run.not_finite, 2U);
  EXPECT_NE(page().find("3 lines of metrics.jsonl cannot be read"), std::string::npos);
}

TEST_F(ReportFolder, TimeLeavesOutWhatIsBetweenStarts) {
  write("lives/000001", "life: 1\nresumed_from_images: 0\n");
  write("lives/000002", "life: 2\nresumed_from_images: 25\n");
  write("metrics.jsonl",
        "{\"images\":10,\"loss\":1,\"images_per_second\":10}\n"
        "{\"images\":20,\"loss\":1,\"images_per_second\":10}\n"
        "{\"images\":30,\"loss\":1,\"images_per_second\":1}\n");
  const RunFolder run = read_run(real_file_system(), folder_);
  EXPECT_EQ(run.seconds_at(10), 1);
  EXPECT_EQ(run.seconds_at(20), 2);
  EXPECT_EQ(run.seconds_at(30), 7);  // 25 to 30 at 1 a second
}

TEST_F(ReportFolder, LongRunsKeepABoundedNumberOfMeans) {
  Curve curve("loss");
  for (int i = 0; i < 100'000; ++i) curve.add({i * 1.0, 0, 3});
  EXPECT_LT(curve.points().size(), 2049U);
  EXPECT_GT(curve.points().size(), 500U);
  for (const RunPoint& point : curve.points()) EXPECT_EQ(point.value, 3);
}

TEST_F(ReportFolder, DamageEverywhereIsSaidInThePage) {
  write("status.json", "{\"state\":\"running\",");
  write("config.pbtxt", "train { batch: \"<script>alert(1)</script>");
  write("evaluations/img-000000000010-<script>.json", "[1");
  write("evaluations/img-000000000020.json",
        "{\"fid\":{\"value\":null,\"n\":1e99,\"per_frame\":[1,null,\"x\"]},\"psnr\":7}");
  write("samples/img-000000000010.png", "no picture");
  write("checkpoints/img-000000000010/manifest.pbtxt", "format: 1\n");
  write("lives/000001", std::string(100, '\xff'));
  write("logs/rank-0000.log", "W20261130 13:24:40 <b>it</b>\n");
  const std::string html = page();
  for (const char* said : {"status.json is no JSON", "There is no metrics.jsonl", "config.pbtxt: ",
                           "no JSON object", "img-000000000010.png", "&lt;b&gt;it&lt;/b&gt;"}) {
    EXPECT_NE(html.find(said), std::string::npos) << said;
  }
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
  EXPECT_EQ(html.find("<b>it"), std::string::npos);
}

TEST_F(ReportFolder, SweepsThatAreDamagedAreReported) {
  for (const char* text :
       {"", "{\"arms\":", "[]",
        "{\"format\":9,\"arms\":[{},7,{\"runs\":[{\"curve\":{\"a\":[[1]]}}]}]}",
        "{\"metrics\":[{\"name\":\"psnr\"}],\"arms\":[{\"name\":\"A\",\"images\":-1e999}],"
        "\"pictures\":{\"held_out\":\"../../etc/passwd\",\"arms\":{\"A\":\"none.npy\"}}}"}) {
    write("results.json", text);
    EXPECT_NE(page().find("Missing or unreadable"), std::string::npos) << text;
    board_page(real_file_system(), {{folder_}, "test"}, std::nullopt);
  }
}

SweepArm arm_of(const std::string& name, double multiplications,
                const std::vector<std::vector<CostPoint>>& seeds) {
  SweepArm arm;
  arm.name = name;
  arm.images = 100;
  arm.multiplications = multiplications;
  for (const std::vector<CostPoint>& curve : seeds) {
    SweepRun& run = arm.runs.emplace_back();
    run.values = {{"fd", curve.back().value}};
    run.curves = {{"fd", curve}};
  }
  return arm;
}

TEST(Board, RanksByComputeToTheTarget) {
  SweepResults sweep;
  sweep.metrics = {{.name = "fd", .unit = "", .extractor = "", .reference = ""}};
  sweep.arms = {arm_of("image", 1, {{{50, 9}, {100, 4}}}),
                arm_of("slow", 4, {{{50, 6}, {100, 2}}, {{50, 6}, {100, 3}}}),
                arm_of("fast", 2, {{{50, 3}, {100, 1}}}),
                arm_of("never", 1, {{{50, 9}, {100, 8}}})};
  const Board board = make_board({sweep}, std::nullopt);
  EXPECT_EQ(board.target, 4);
  EXPECT_EQ(board.equal_compute, 100);
  ASSERT_EQ(board.rows.size(), 4U);
  // The image needs its 100; fast is there at its first measurement, 50 images of 2.
  EXPECT_EQ(board.rows[0].arm, "image");
  EXPECT_EQ(board.rows[1].arm, "fast");
  EXPECT_TRUE(board.rows[1].at_first);
  EXPECT_EQ(board.rows[2].arm, "slow");
  EXPECT_NEAR(board.rows[2].compute.mean, (300 + 4 * (50 + 100.0 / 3)) / 2, 1e-9);
  EXPECT_EQ(board.rows[3].arm, "never");
  EXPECT_EQ(board.rows[3].reached, 0U);
  EXPECT_EQ(make_board({sweep}, 8.5).rows[0].arm, "image");
}

}  // namespace
}  // namespace lf
