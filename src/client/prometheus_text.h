// Reads Prometheus exposition text, format 0.0.4.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvs {

struct PrometheusSample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0.0;
};

// Comments, empty lines and lines that are no sample are passed over: a foreign server's oddity in
// one metric must not hide the others.
std::vector<PrometheusSample> ParsePrometheusText(std::string_view text);

// Sum over all label sets (several engines, several models); nullopt when there is no such sample.
std::optional<double> SumOfSamples(const std::vector<PrometheusSample>& samples,
                                   std::string_view name);

// The first sample of that name; nullptr when there is none.
const PrometheusSample* FindSample(const std::vector<PrometheusSample>& samples,
                                   std::string_view name);

}  // namespace kvs
