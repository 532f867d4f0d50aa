#include "client/prometheus_text.h"

#include <charconv>

namespace kvs {
namespace {

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == ':';
}

std::string_view TakeName(std::string_view* line) {
  size_t size = 0;
  while (size < line->size() && IsNameChar((*line)[size])) ++size;
  const std::string_view name = line->substr(0, size);
  line->remove_prefix(size);
  return name;
}

void SkipBlanks(std::string_view* line) {
  while (!line->empty() && (line->front() == ' ' || line->front() == '\t')) line->remove_prefix(1);
}

bool TakeChar(std::string_view* line, char c) {
  if (line->empty() || line->front() != c) return false;
  line->remove_prefix(1);
  return true;
}

// "..." with \\, \" and \n; the opening quote is still there.
bool TakeQuoted(std::string_view* line, std::string* value) {
  if (!TakeChar(line, '"')) return false;
  while (!line->empty()) {
    char c = line->front();
    line->remove_prefix(1);
    if (c == '"') return true;
    if (c == '\\') {
      if (line->empty()) return false;
      c = line->front() == 'n' ? '\n' : line->front();
      line->remove_prefix(1);
    }
    *value += c;
  }
  return false;
}

// "{a="1",b="2",}"; nothing at all is an empty set.
bool TakeLabels(std::string_view* line, std::map<std::string, std::string>* labels) {
  if (!TakeChar(line, '{')) return true;
  while (true) {
    SkipBlanks(line);
    if (TakeChar(line, '}')) return true;
    const std::string_view name = TakeName(line);
    if (name.empty() || !TakeChar(line, '=')) return false;
    std::string value;
    if (!TakeQuoted(line, &value)) return false;
    (*labels)[std::string(name)] = value;
    SkipBlanks(line);
    if (!TakeChar(line, ',') && line->substr(0, 1) != "}") return false;
  }
}

bool TakeValue(std::string_view* line, double* value) {
  SkipBlanks(line);
  TakeChar(line, '+');
  const auto [end, error] = std::from_chars(line->data(), line->data() + line->size(), *value);
  if (error != std::errc()) return false;
  line->remove_prefix(end - line->data());
  return line->empty() || line->front() == ' ' || line->front() == '\t' || line->front() == '\r';
}

bool ParseLine(std::string_view line, PrometheusSample* sample) {
  SkipBlanks(&line);
  sample->name = TakeName(&line);
  if (sample->name.empty()) return false;
  SkipBlanks(&line);
  return TakeLabels(&line, &sample->labels) && TakeValue(&line, &sample->value);
}

}  // namespace

std::vector<PrometheusSample> ParsePrometheusText(std::string_view text) {
  std::vector<PrometheusSample> samples;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    PrometheusSample sample;
    if (ParseLine(text.substr(0, end), &sample)) samples.push_back(std::move(sample));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return samples;
}

std::optional<double> SumOfSamples(const std::vector<PrometheusSample>& samples,
                                   std::string_view name) {
  std::optional<double> sum;
  for (const PrometheusSample& sample : samples) {
    if (sample.name == name) sum = sum.value_or(0.0) + sample.value;
  }
  return sum;
}

const PrometheusSample* FindSample(const std::vector<PrometheusSample>& samples,
                                   std::string_view name) {
  for (const PrometheusSample& sample : samples) {
    if (sample.name == name) return &sample;
  }
  return nullptr;
}

}  // namespace kvs
