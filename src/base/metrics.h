// Counters, gauges and histograms in Prometheus text. The only door to prometheus-cpp.
//
// Counters and gauges are atomics. A histogram has a lock of its own, held only to add one value or
// to copy its buckets. A scrape therefore never holds up the engine for long.
// A metric lives as long as its registry; references stay valid.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvs {

using MetricLabels = std::map<std::string, std::string>;

class Counter {
 public:
  void Add(double value = 1.0);
  double value() const;

 private:
  friend class MetricsRegistry;
  explicit Counter(void* impl) : impl_(impl) {}
  void* impl_;
};

class Gauge {
 public:
  void Set(double value);
  void Add(double value);
  double value() const;

 private:
  friend class MetricsRegistry;
  explicit Gauge(void* impl) : impl_(impl) {}
  void* impl_;
};

class Histogram {
 public:
  void Observe(double value);

 private:
  friend class MetricsRegistry;
  explicit Histogram(void* impl) : impl_(impl) {}
  void* impl_;
};

class MetricsRegistry {
 public:
  // `labels` are put on every metric of this registry (model_name, engine).
  explicit MetricsRegistry(MetricLabels labels = {});
  ~MetricsRegistry();

  // Registering one name with several label sets makes one family. Counter names carry "_total".
  Counter& AddCounter(const std::string& name, const std::string& help, MetricLabels labels = {});
  Gauge& AddGauge(const std::string& name, const std::string& help, MetricLabels labels = {});
  Histogram& AddHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& bounds, MetricLabels labels = {});

  // A gauge that is always 1 and whose labels say something: a later call of the same name takes
  // the place of an earlier one. From one thread at a time.
  void SetInfo(const std::string& name, const std::string& help, MetricLabels labels);

  // The exposition text, format 0.0.4.
  std::string Serialize() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvs
