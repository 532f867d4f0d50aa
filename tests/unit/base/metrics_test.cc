#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Metrics, SerializesEveryKindWithTheRegistrysLabels) {
  MetricsRegistry registry({{"model_name", "tiny"}, {"engine", "0"}});
  registry.AddCounter("a_total", "Things counted.").Add(3);
  registry.AddGauge("b", "A level.", {{"reason", "x"}}).Set(-1.5);
  Histogram& latency = registry.AddHistogram("c_seconds", "A time.", {0.1, 1});
  latency.Observe(0.05);
  latency.Observe(0.5);
  latency.Observe(5);
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("# HELP a_total Things counted.\n# TYPE a_total counter\n"));
  EXPECT_THAT(text, HasSubstr("a_total{engine=\"0\",model_name=\"tiny\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("b{engine=\"0\",model_name=\"tiny\",reason=\"x\"} -1.5\n"));
  EXPECT_THAT(text, HasSubstr("c_seconds_count{engine=\"0\",model_name=\"tiny\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("le=\"0.1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("le=\"1\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("le=\"+Inf\"} 3\n"));
}

TEST(Metrics, OneNameWithSeveralLabelSetsIsOneFamily) {
  MetricsRegistry registry;
  registry.AddCounter("n_total", "N.", {{"reason", "a"}}).Add();
  registry.AddCounter("n_total", "N.", {{"reason", "b"}}).Add(2);
  // The same name and labels again: another handle on the same metric.
  EXPECT_EQ(registry.AddCounter("n_total", "N.", {{"reason", "b"}}).value(), 2);
  const std::string text = registry.Serialize();
  const std::string type = "# TYPE n_total counter\n";
  const size_t first = text.find(type);
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(text.find(type, first + 1), std::string::npos);
  EXPECT_THAT(text, HasSubstr("n_total{reason=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("n_total{reason=\"b\"} 2\n"));
}

TEST(Metrics, AnInfoTakesThePlaceOfTheOneBefore) {
  MetricsRegistry registry;
  registry.SetInfo("color_info", "Which.", {{"color", "red"}});
  EXPECT_NE(registry.Serialize().find("color_info{color=\"red\"} 1"), std::string::npos);
  registry.SetInfo("color_info", "Which.", {{"color", "red"}});
  EXPECT_NE(registry.Serialize().find("color_info{color=\"red\"} 1"), std::string::npos);
  registry.SetInfo("color_info", "Which.", {{"color", "blue"}});
  EXPECT_EQ(registry.Serialize().find("red"), std::string::npos);
  EXPECT_NE(registry.Serialize().find("color_info{color=\"blue\"} 1"), std::string::npos);
}

TEST(Metrics, LabelValuesAreEscaped) {
  MetricsRegistry registry(MetricLabels{{"model_name", "a\"b\\c\nd"}});
  registry.AddGauge("g", "G.").Set(1);
  EXPECT_THAT(registry.Serialize(), HasSubstr(R"(g{model_name="a\"b\\c\nd"} 1)"));
}

TEST(Metrics, UpdatesFromManyThreadsDuringScrapesAllCount) {
  MetricsRegistry registry;
  Counter& counter = registry.AddCounter("n_total", "N.");
  Histogram& histogram = registry.AddHistogram("h", "H.", {1, 2});
  std::atomic<bool> done{false};
  std::thread scraper([&] {
    while (!done) EXPECT_THAT(registry.Serialize(), Not(testing::IsEmpty()));
  });
  std::vector<std::thread> writers;
  for (int t = 0; t < 3; ++t) {
    writers.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        counter.Add();
        histogram.Observe(1.5);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  scraper.join();
  EXPECT_EQ(counter.value(), 3000);
  EXPECT_THAT(registry.Serialize(), HasSubstr("h_count 3000\n"));
}

}  // namespace
}  // namespace kvs
