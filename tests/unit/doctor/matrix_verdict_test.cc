#include "doctor/matrix_verdict.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvs {
namespace {

using testing::HasSubstr;

const MatrixRules kRules = {SameTypeCloseness(true), Fp8Closeness(KvCacheDType::kF8E4M3),
                            SameTypeCloseness(false)};

std::vector<CellRequest> Requests() {
  return MakeCellRequests({std::vector<uint32_t>(138, 1), std::vector<uint32_t>(138, 2)}, 16);
}

// What a cell without fault answers: the same text for the same prompt, hits where there are some.
CellResult Good(bool prefix_caching, double logprob) {
  CellResult cell;
  for (const CellRequest& request : Requests()) {
    CellAnswer answer;
    answer.name = request.name;
    for (int i = 0; i < 24; ++i) {
      const std::string text = fmt::format(" {}", request.prompt.size() + request.prompt[0]);
      answer.tokens.push_back({text, logprob, {{text, logprob}, {" other", logprob - 4}}});
    }
    answer.prompt_tokens = static_cast<uint32_t>(request.prompt.size());
    answer.cached_tokens = prefix_caching ? request.reusable_tokens : 0;
    answer.hit_growth = answer.cached_tokens;
    if (request.name.find("continued") != std::string::npos) cell.at_once.push_back(answer);
    cell.answers.push_back(std::move(answer));
  }
  return cell;
}

CellResults AllGood() {
  return {Good(false, -0.2), Good(false, -0.25), Good(true, -0.2), Good(true, -0.25)};
}

MatrixVerdict Judge(CellResults& cells, const CellResult* reference = nullptr) {
  JudgeCells(Requests(), kRules, reference, cells);
  return ReadMatrix(cells);
}

void MakeWrong(CellResult& cell) {
  for (auto* answers : {&cell.answers, &cell.at_once}) {
    for (CellAnswer& answer : *answers) {
      for (AnsweredToken& token : answer.tokens) token = {" wrong", -0.2, {{" wrong", -0.2}}};
    }
  }
}

void Break(CellResult& cell) {
  cell.failure = CellFailure::kCrash;
  cell.what = "was killed by SIGSEGV";
}

TEST(MatrixVerdict, FourGoodCellsPass) {
  CellResults cells = AllGood();
  const MatrixVerdict verdict = Judge(cells);
  EXPECT_EQ(verdict.reading, Reading::kPass);
  EXPECT_EQ(verdict.fix, "");
  for (const CellResult& cell : cells) EXPECT_EQ(cell.failure, CellFailure::kNone) << cell.what;
}

// Every combination of cells that crash, as bits: cell 1 is bit 0.
TEST(MatrixVerdict, EveryCombinationOfCrashesHasItsReading) {
  const Reading readings[16] = {
      Reading::kPass,         // none
      Reading::kUnsteady,     // 1
      Reading::kFp8Alone,     // 2
      Reading::kUnsteady,     // 1 2
      Reading::kPrefixAlone,  // 3
      Reading::kUnsteady,     // 1 3
      Reading::kEachAlone,    // 2 3
      Reading::kUnsteady,     // 1 2 3
      Reading::kInteraction,  // 4
      Reading::kUnsteady,     // 1 4
      Reading::kFp8Alone,     // 2 4
      Reading::kUnsteady,     // 1 2 4
      Reading::kPrefixAlone,  // 3 4
      Reading::kUnsteady,     // 1 3 4
      Reading::kEachAlone,    // 2 3 4
      Reading::kEverything,   // all
  };
  for (size_t bits = 0; bits < 16; ++bits) {
    CellResults cells = AllGood();
    for (size_t i = 0; i < 4; ++i) {
      if ((bits >> i & 1) != 0) Break(cells[i]);
    }
    const MatrixVerdict verdict = Judge(cells);
    EXPECT_EQ(verdict.reading, readings[bits]) << bits;
    EXPECT_FALSE(verdict.sentence.empty());
    EXPECT_EQ(verdict.fix.empty(), bits == 0) << bits;
  }
}

TEST(MatrixVerdict, TheInteractionsFixNamesBothFallbacks) {
  CellResults cells = AllGood();
  Break(cells[3]);
  const MatrixVerdict verdict = Judge(cells);
  EXPECT_EQ(ToString(verdict.reading), "interaction bug");
  EXPECT_THAT(verdict.fix, HasSubstr("--kv-cache-dtype fp8 where memory is short"));
  EXPECT_THAT(verdict.fix, HasSubstr("--enable-prefix-caching where prompts share"));
}

TEST(MatrixVerdict, AFaultThatCell4LacksIsDoubted) {
  CellResults cells = AllGood();
  Break(cells[1]);
  EXPECT_THAT(Judge(cells).sentence, HasSubstr("cell 4, with prefix caching as well, passed"));
}

TEST(MatrixVerdict, AWrongTextInCell4AloneIsAnInteraction) {
  CellResults cells = AllGood();
  MakeWrong(cells[3]);
  EXPECT_EQ(Judge(cells).reading, Reading::kInteraction);
  EXPECT_EQ(cells[3].failure, CellFailure::kWrongText);
  EXPECT_THAT(cells[3].what, HasSubstr("differs from that of cell 2"));
}

TEST(MatrixVerdict, AWrongTextOfFp8IsHeldAgainstCell1) {
  CellResults cells = AllGood();
  MakeWrong(cells[1]);
  MakeWrong(cells[3]);
  const MatrixVerdict verdict = Judge(cells);
  EXPECT_EQ(verdict.reading, Reading::kFp8Alone);
  EXPECT_THAT(verdict.fix, HasSubstr("kvserve calibrate"));
  EXPECT_THAT(cells[1].what, HasSubstr("differs from that of cell 1"));
}

TEST(MatrixVerdict, ARepetitionThatDiffersIsFoundWithoutAnotherCell) {
  CellResults cells = AllGood();
  cells[2].answers[1].tokens[5].text = " else";
  EXPECT_EQ(Judge(cells).reading, Reading::kPrefixAlone);
  EXPECT_EQ(cells[2].what,
            "'text 1, repeated' differs from the first time: token 6 is ' else' instead of ' 102'");
}

TEST(MatrixVerdict, AnAnswerThatDiffersInCompanyIsFound) {
  CellResults cells = AllGood();
  cells[3].at_once[1].tokens[0].text = " else";
  EXPECT_EQ(Judge(cells).reading, Reading::kInteraction);
  EXPECT_THAT(cells[3].what, HasSubstr("'text 2, continued' differs when it is sent with others"));
}

TEST(MatrixVerdict, WhereOnlyCell1DiffersItIsCell1) {
  CellResults cells = AllGood();
  MakeWrong(cells[0]);
  EXPECT_EQ(Judge(cells).reading, Reading::kUnsteady);
  EXPECT_EQ(cells[0].failure, CellFailure::kWrongText);
  EXPECT_EQ(cells[1].failure, CellFailure::kNone);
  EXPECT_EQ(cells[2].failure, CellFailure::kNone);
}

// Four cells that agree with each other can all be wrong.
TEST(MatrixVerdict, AReferenceShowsWhatIsWrongEverywhere) {
  const CellResult reference = Good(false, -0.21);
  CellResults cells = AllGood();
  EXPECT_EQ(Judge(cells, &reference).reading, Reading::kPass);
  for (CellResult& cell : cells) MakeWrong(cell);
  EXPECT_EQ(Judge(cells, &reference).reading, Reading::kEverything);
  for (const CellResult& cell : cells) {
    EXPECT_EQ(cell.failure, CellFailure::kWrongText);
    EXPECT_THAT(cell.what, HasSubstr("differs from that of the reference"));
  }
}

TEST(MatrixVerdict, AReferenceThatFailedJudgesNothing) {
  CellResult reference = Good(false, -0.2);
  MakeWrong(reference);
  Break(reference);
  CellResults cells = AllGood();
  EXPECT_EQ(Judge(cells, &reference).reading, Reading::kPass);
}

TEST(MatrixVerdict, MissingAndFalseHitsAreFailures) {
  CellResults cells = AllGood();
  cells[3].answers[1].cached_tokens = 0;
  cells[3].answers[1].hit_growth = 0;
  cells[1].answers[1].cached_tokens = 96;
  EXPECT_EQ(Judge(cells).reading, Reading::kFp8Alone);
  EXPECT_EQ(cells[3].failure, CellFailure::kMissingHit);
  EXPECT_EQ(cells[3].what,
            "'text 1, repeated' found 0 cached tokens (0 by /metrics) instead of 96");
  EXPECT_EQ(cells[1].failure, CellFailure::kFalseHit);
}

TEST(MatrixVerdict, AHitThatMetricsDoNotShowIsMissing) {
  CellResults cells = AllGood();
  cells[2].answers[2].hit_growth = std::nullopt;
  Judge(cells);
  EXPECT_EQ(cells[2].failure, CellFailure::kMissingHit);
}

TEST(MatrixVerdict, AnInterruptedMatrixSaysNothing) {
  CellResults cells = AllGood();
  Break(cells[1]);
  cells[2] = {CellFailure::kInterrupted, "was interrupted", {}, {}, 0, 0};
  EXPECT_EQ(Judge(cells).reading, Reading::kInterrupted);
}

TEST(MatrixVerdict, ACrashIsNotPaintedOverByItsAnswers) {
  CellResults cells = AllGood();
  Break(cells[2]);
  cells[2].answers[0].tokens[0].text = " wrong";
  Judge(cells);
  EXPECT_EQ(cells[2].failure, CellFailure::kCrash);
  EXPECT_EQ(cells[2].what, "was killed by SIGSEGV");
}

}  // namespace
}  // namespace kvs
