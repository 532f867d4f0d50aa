#include "client/prometheus_text.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvs {
namespace {

TEST(PrometheusText, ReadsSamplesWithAndWithoutLabels) {
  const auto samples = ParsePrometheusText(
      "# HELP a_total Things.\n# TYPE a_total counter\n"
      "a_total 3\n"
      "vllm:hits_total{engine=\"0\",model_name=\"m\"} 1.5e3\n"
      "spaced { x = \"1\" } 4\n"
      "spaced2 { x=\"1\" , y=\"2\" , }   5 1700000000000\n"
      "empty{} -2\r\n"
      "not_ended 9");
  ASSERT_EQ(samples.size(), 5u);
  EXPECT_EQ(samples[0].name, "a_total");
  EXPECT_EQ(samples[0].value, 3);
  EXPECT_EQ(samples[1].name, "vllm:hits_total");
  EXPECT_EQ(samples[1].labels.at("engine"), "0");
  EXPECT_EQ(samples[1].labels.at("model_name"), "m");
  EXPECT_EQ(samples[1].value, 1500);
  EXPECT_EQ(samples[2].labels.size(), 2u);
  EXPECT_EQ(samples[2].value, 5);
  EXPECT_EQ(samples[3].value, -2);
  EXPECT_EQ(samples[4].value, 9);
}

TEST(PrometheusText, UndoesEscapes) {
  const auto samples = ParsePrometheusText(R"(m{p="C:\\d \"q\" } , \n"} 1)");
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].labels.at("p"), "C:\\d \"q\" } , \n");
}

TEST(PrometheusText, ReadsSpecialValues) {
  const auto samples = ParsePrometheusText("a +Inf\nb -Inf\nc NaN\nd +7\n");
  ASSERT_EQ(samples.size(), 4u);
  EXPECT_TRUE(std::isinf(samples[0].value) && samples[0].value > 0);
  EXPECT_TRUE(std::isinf(samples[1].value) && samples[1].value < 0);
  EXPECT_TRUE(std::isnan(samples[2].value));
  EXPECT_EQ(samples[3].value, 7);
}

TEST(PrometheusText, PassesOverWhatIsNoSample) {
  EXPECT_TRUE(ParsePrometheusText("").empty());
  const auto samples = ParsePrometheusText(
      "\n   \nname\nname{a=\"1\" 2\nname{a=1} 2\nname{a=\"x} 2\nname{a=\"\\\nname x1\nname 1x\n"
      "{a=\"1\"} 2\n# EOF\ngood 1\n");
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].name, "good");
}

TEST(PrometheusText, SumsOverLabelSets) {
  const auto samples = ParsePrometheusText("a{e=\"0\"} 1\nb 5\na{e=\"1\"} 2\n");
  EXPECT_EQ(SumOfSamples(samples, "a"), 3.0);
  EXPECT_EQ(SumOfSamples(samples, "c"), std::nullopt);
  ASSERT_NE(FindSample(samples, "a"), nullptr);
  EXPECT_EQ(FindSample(samples, "a")->labels.at("e"), "0");
  EXPECT_EQ(FindSample(samples, "c"), nullptr);
}

}  // namespace
}  // namespace kvs
