#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <deque>

namespace kvs {

struct MetricsRegistry::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  MetricLabels labels;
  std::deque<Counter> counters;
  std::deque<Gauge> gauges;
  std::deque<Histogram> histograms;
  std::map<std::string, prometheus::Gauge*> infos;

  MetricLabels WithOwn(MetricLabels extra) const {
    extra.insert(labels.begin(), labels.end());
    return extra;
  }
};

void Counter::Add(double value) { static_cast<prometheus::Counter*>(impl_)->Increment(value); }
double Counter::value() const { return static_cast<prometheus::Counter*>(impl_)->Value(); }
void Gauge::Set(double value) { static_cast<prometheus::Gauge*>(impl_)->Set(value); }
void Gauge::Add(double value) { static_cast<prometheus::Gauge*>(impl_)->Increment(value); }
double Gauge::value() const { return static_cast<prometheus::Gauge*>(impl_)->Value(); }
void Histogram::Observe(double value) {
  static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

MetricsRegistry::MetricsRegistry(MetricLabels labels) : impl_(std::make_unique<Impl>()) {
  impl_->labels = std::move(labels);
}
MetricsRegistry::~MetricsRegistry() = default;

Counter& MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                     MetricLabels labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  auto& metric = family.Add(impl_->WithOwn(std::move(labels)));
  return impl_->counters.emplace_back(Counter(&metric));
}

Gauge& MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                                 MetricLabels labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  auto& metric = family.Add(impl_->WithOwn(std::move(labels)));
  return impl_->gauges.emplace_back(Gauge(&metric));
}

Histogram& MetricsRegistry::AddHistogram(const std::string& name, const std::string& help,
                                         const std::vector<double>& bounds, MetricLabels labels) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  auto& metric = family.Add(impl_->WithOwn(std::move(labels)),
                            prometheus::Histogram::BucketBoundaries(bounds.begin(), bounds.end()));
  return impl_->histograms.emplace_back(Histogram(&metric));
}

void MetricsRegistry::SetInfo(const std::string& name, const std::string& help,
                              MetricLabels labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  prometheus::Gauge& gauge = family.Add(impl_->WithOwn(std::move(labels)));
  gauge.Set(1);
  prometheus::Gauge*& shown = impl_->infos[name];
  if (shown != nullptr && shown != &gauge) family.Remove(shown);
  shown = &gauge;
}

std::string MetricsRegistry::Serialize() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace kvs
