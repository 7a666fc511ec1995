// Statistics over seeds, rows of finished runs, and the words of a sweep's results.
#include "sweep/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/error_of.h"

namespace lf {
namespace {

TEST(Statistics, StudentsTIsThatOfTheTables) {
  EXPECT_NEAR(student_t95(1), 12.706, 1e-3);
  EXPECT_NEAR(student_t95(2), 4.303, 1e-3);
  EXPECT_NEAR(student_t95(21), 2.0796, 1e-4);
  EXPECT_NEAR(student_t95(60), 2.0003, 1e-4);
  EXPECT_NEAR(student_t95(99), 1.9842, 1e-4);
}

TEST(Statistics, PairedDifferencesWinLoseOrTellNothing) {
  const std::map<int, double> one = {{0, 3.0}, {1, 3.1}, {2, 3.2}},
                              two = {{0, 1.0}, {1, 1.2}, {2, 1.1}};
  const Paired clear = compare_pairs(one, two, true);
  EXPECT_EQ(clear.word, Word::kWon);
  EXPECT_EQ(clear.n, 3);
  EXPECT_NEAR(*clear.mean, 2.0, 1e-12);
  EXPECT_NEAR(*clear.high - *clear.mean, 4.3027 * 0.1 / std::sqrt(3), 1e-4);
  EXPECT_EQ(compare_pairs(one, two, false).word, Word::kLost);
  EXPECT_EQ(compare_pairs(one, {{0, 1.0}, {1, 1.2}}, true).word, Word::kUndecided);
  EXPECT_EQ(compare_pairs(one, {{0, 2.9}, {1, 3.0}, {2, 0.2}}, true).word, Word::kNoDifference);
  EXPECT_EQ(compare_pairs(one, {{7, 1.0}}, true).n, 0);
  const std::map<int, double> many = {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, -0.1}};
  EXPECT_EQ(compare_pairs(many, {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 0}}, true).word,
            Word::kUndecided);
}

TEST(Statistics, AVerdictIsLostByOneAndWonByAll) {
  EXPECT_EQ(word_of_all({Word::kWon, Word::kWon}), Word::kWon);
  EXPECT_EQ(word_of_all({Word::kWon, Word::kNoDifference}), Word::kNoDifference);
  EXPECT_EQ(word_of_all({Word::kUndecided, Word::kNoDifference}), Word::kUndecided);
  EXPECT_EQ(word_of_all({Word::kUndecided, Word::kLost}), Word::kLost);
  EXPECT_EQ(word_agreed({Word::kWon, Word::kWon}), Word::kWon);
  EXPECT_EQ(word_agreed({Word::kWon, Word::kNoDifference}), Word::kUndecided);
}

std::string row(const std::string& hash, const std::string& arm, int seed, double psnr, double fd,
                const std::string& judge) {
  return str(R"({"arm":")", arm, R"(","seed":)", seed, R"(,"hash":")", hash,
             R"(","images":40,"seconds":2,"values":{"psnr":)", psnr, R"(,"fd_own":)", fd,
             R"(},"curve":{"psnr":[[20,1.5],[40,2]]},"extractors":{"fd_own":")", judge, R"("}})");
}

TEST(Rows, ARowIsAddedOnceAndDamageIsNamed) {
  const std::string folder = ::testing::TempDir() + "lf-rows-" + std::to_string(::getpid()),
                    path = folder + "/rows.jsonl";
  FileSystem& files = real_file_system();
  add_row(files, path, parse_row(row("h1", "A", 0, 20, 3, "j"), "a row"));
  add_row(files, path, parse_row(row("h2", "A", 1, 21, 3, "j"), "a row"));
  add_row(files, path, parse_row(row("h1", "A", 0, 99, 3, "j"), "a row"));
  const std::map<std::string, RunRow> rows = read_rows(files, path);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows.at("h1").values.at("psnr"), 20);
  EXPECT_EQ(rows.at("h2").seed, 1);
  std::ofstream(path, std::ios::app) << "{\"arm\":\"A\",\"se";
  EXPECT_NE(error_of(Code::kUsage, [&] { read_rows(files, path); }).find("line 3 is no row"),
            std::string::npos);
  std::filesystem::remove_all(folder);
}

class SweepResults : public ::testing::Test {
 protected:
  SweepResults() {
    for (const char* name : {"A", "V"}) {
      ArmPlan arm;
      arm.name = name;
      arm.batch = 4;
      arm.images = 40;
      plan_.arms.push_back(arm);
    }
    plan_.measures = {{.name = "psnr", .metric = "psnr", .unit = "dB", .higher = true},
                      {.name = "fd_own", .metric = "fd_own", .unit = "", .by_features = true}};
    SweepVerdict& verdict = *plan_.sweep.add_verdict();
    verdict.set_name("statement");
    verdict.add_compare()->set_better("V");
    verdict.mutable_compare(0)->set_than("A");
  }
  void finish(size_t arm, int seed, double psnr, double fd, const std::string& judge = "j") {
    ArmRun run{.arm = arm, .seed = seed, .state = ArmRun::State::kFinished};
    run.row =
        parse_row(row(str(arm, "-", seed), plan_.arms[arm].name, seed, psnr, fd, judge), "a row");
    runs_.push_back(run);
  }
  Results results(bool short_sweep = false) {
    return results_of(plan_, runs_, std::vector<ArmSize>(2), {{"blocks", "psnr", 15}}, short_sweep);
  }

  SweepPlan plan_;
  std::vector<ArmRun> runs_;
};

TEST_F(SweepResults, VerdictsAreThoseOfTheirPairsAndOfMetricsThatAgree) {
  for (const int seed : {0, 1, 2}) {
    finish(0, seed, 20, 5 + 0.01 * seed);
    finish(1, seed, 22 + 0.1 * seed, 3);
  }
  const Results found = results();
  EXPECT_EQ(found.verdicts[0].word, Word::kWon);
  EXPECT_NEAR(*found.comparisons[0].paired.mean, 2.1, 1e-9);
  EXPECT_TRUE(found.unfinished.empty());
  EXPECT_TRUE(results(true).verdicts.empty());
  const std::string text = results_text(plan_, found, false);
  EXPECT_NE(text.find("| A | 40 | 10 |"), std::string::npos) << text;
  EXPECT_NE(text.find("20.00 ± 0.00"), std::string::npos) << text;
  EXPECT_NE(text.find("V against A won by +2.10 [+1.85, +2.35], n 3"), std::string::npos) << text;
}

TEST_F(SweepResults, DistancesByAnotherJudgeAndUnlearntArmsAreMarked) {
  finish(0, 0, 12, 5);
  finish(0, 1, 12, 5);
  finish(1, 0, 22, 1, "other");
  runs_.push_back({.arm = 1, .seed = 1, .state = ArmRun::State::kFailed});
  const Results found = results();
  EXPECT_EQ(found.arms[0].note, "not learnt");
  EXPECT_EQ(found.arms[1].note, "");
  EXPECT_FALSE(found.arms[1].values.contains("fd_own"));
  EXPECT_EQ(found.unfinished, std::vector<std::string>{"V seed 1"});
  EXPECT_EQ(found.verdicts[0].word, Word::kUndecided);
  const std::string json =
      results_json(plan_, found, {"s", "1", false, "/nowhere"}, real_file_system());
  EXPECT_NE(json.find(R"("curve":{"psnr":[[20,1.5],[40,2]]})"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("spread":{"fd_own":0,"psnr":0},"n":2)"), std::string::npos) << json;
}

}  // namespace
}  // namespace lf
