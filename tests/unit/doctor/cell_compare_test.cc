#include "doctor/cell_compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvs {
namespace {

using testing::HasSubstr;

AnsweredToken Token(const std::string& text, double logprob,
                    std::map<std::string, double> others = {}) {
  others[text] = logprob;
  return {text, logprob, std::move(others)};
}

CellAnswer Answer(std::vector<AnsweredToken> tokens) {
  CellAnswer answer;
  answer.name = "text 1, cold";
  answer.tokens = std::move(tokens);
  return answer;
}

constexpr Closeness kLoose = {.gap_max = 0.5, .mean_delta_max = 0.1};
constexpr Closeness kExact = {.exact = true};

TEST(CellCompare, TheSameIsTheSame) {
  const CellAnswer answer = Answer({Token(" a", -0.5), Token(" b", -1.0)});
  EXPECT_EQ(FindDifference(answer, answer, kExact), std::nullopt);
  EXPECT_EQ(FindDifference(answer, answer, kLoose), std::nullopt);
}

TEST(CellCompare, ExactMeansTheLogProbabilityToo) {
  const CellAnswer one = Answer({Token(" a", -0.5)}), other = Answer({Token(" a", -0.5000001)});
  EXPECT_EQ(FindDifference(one, other, kLoose), std::nullopt);
  EXPECT_THAT(*FindDifference(one, other, kExact), HasSubstr("log probability"));
  const CellAnswer third = Answer({Token(" b", -0.5)});
  EXPECT_EQ(*FindDifference(one, third, kExact), "token 1 is ' b' instead of ' a'");
}

TEST(CellCompare, TextsMayPartWhereTwoTokensAreAboutEquallyLikely) {
  const CellAnswer one = Answer({Token(" a", -0.7, {{" b", -0.9}}), Token(" x", -0.1)});
  const CellAnswer other = Answer({Token(" b", -0.7, {{" a", -1.0}}), Token(" y", -0.1)});
  EXPECT_EQ(FindDifference(one, other, kLoose), std::nullopt);
}

TEST(CellCompare, NotWhereOneRunIsSure) {
  const CellAnswer sure = Answer({Token(" a", -0.1, {{" b", -3.0}})});
  const CellAnswer other = Answer({Token(" b", -0.7, {{" a", -0.8}})});
  EXPECT_EQ(*FindDifference(sure, other, kLoose),
            "token 1 is ' b' instead of ' a', 2.90 nats apart (allowed 0.50)");
  EXPECT_THAT(*FindDifference(other, sure, kLoose), HasSubstr("2.90 nats apart"));
}

TEST(CellCompare, NotWhereATokenIsOnNobodysList) {
  const CellAnswer one = Answer({Token(" a", -0.7, {{" b", -0.8}})});
  const CellAnswer other = Answer({Token(" zebra", -0.7, {{" a", -0.7}})});
  EXPECT_EQ(*FindDifference(one, other, kLoose),
            "token 1 is ' zebra' instead of ' a', which is not among the likely ones");
}

TEST(CellCompare, NothingIsComparedBehindTheParting) {
  const CellAnswer one =
      Answer({Token(" a", -0.7, {{" b", -0.7}}), Token(" same", -0.1), Token(" same", -0.1)});
  const CellAnswer other =
      Answer({Token(" b", -0.7, {{" a", -0.7}}), Token(" same", -9.0), Token(" same", -9.0)});
  EXPECT_EQ(FindDifference(one, other, kLoose), std::nullopt);
}

TEST(CellCompare, TheMeanOfTheLogProbabilitiesIsBounded) {
  const CellAnswer one = Answer({Token(" a", -0.1), Token(" b", -0.1)});
  EXPECT_EQ(FindDifference(one, Answer({Token(" a", -0.25), Token(" b", -0.1)}), kLoose),
            std::nullopt);
  EXPECT_EQ(*FindDifference(one, Answer({Token(" a", -0.1), Token(" b", -0.5)}), kLoose),
            "log probabilities differ by 0.20 nats a token (allowed 0.10)");
}

TEST(CellCompare, ALengthIsADifference) {
  EXPECT_EQ(*FindDifference(Answer({Token(" a", -0.1)}), Answer({}), kLoose),
            "0 tokens instead of 1");
}

TEST(CellCompare, OfManyAnswersTheFirstDifferenceIsNamed) {
  const std::vector<CellAnswer> wanted = {Answer({Token(" a", 0)}), Answer({Token(" b", 0)})};
  std::vector<CellAnswer> got = wanted;
  EXPECT_EQ(FindDifference(wanted, got, kExact), std::nullopt);
  got[1] = Answer({Token(" c", 0)});
  got[1].name = "text 1, repeated";
  EXPECT_EQ(*FindDifference(wanted, got, kExact),
            "'text 1, repeated': token 1 is ' c' instead of ' b'");
}

TEST(CellCompare, TheDistanceIsThatOfTheWorstAnswer) {
  const std::vector<CellAnswer> wanted = {
      Answer({Token(" a", -0.1), Token(" b", -0.1)}),
      Answer({Token(" a", -0.5), Token(" b", -0.7, {{" c", -1.0}})})};
  const std::vector<CellAnswer> got = {
      Answer({Token(" a", -0.3), Token(" b", -0.2)}),
      Answer({Token(" a", -0.5), Token(" c", -0.6, {{" b", -1.1}})})};
  const Distance distance = DistanceOf(wanted, got);
  EXPECT_NEAR(distance.mean_delta, 0.15, 1e-12);
  EXPECT_NEAR(distance.gap, 0.5, 1e-12);
  EXPECT_EQ(DistanceOf(wanted, wanted).gap, 0.0);
  EXPECT_EQ(DistanceOf(wanted, wanted).mean_delta, 0.0);
}

TEST(CellCompare, Fp8IsGivenMoreRoomThanAnotherOrderOfSummation) {
  EXPECT_TRUE(SameTypeCloseness(true).exact);
  const Closeness same = SameTypeCloseness(false), e4m3 = Fp8Closeness(KvCacheDType::kF8E4M3),
                  e5m2 = Fp8Closeness(KvCacheDType::kF8E5M2);
  EXPECT_FALSE(same.exact || e4m3.exact || e5m2.exact);
  EXPECT_LT(same.gap_max, e4m3.gap_max);
  EXPECT_LT(e4m3.gap_max, e5m2.gap_max);
  EXPECT_LT(same.mean_delta_max, e4m3.mean_delta_max);
  EXPECT_LT(e4m3.mean_delta_max, e5m2.mean_delta_max);
}

}  // namespace
}  // namespace kvs
