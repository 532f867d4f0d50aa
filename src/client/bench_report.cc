#include "client/bench_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace kvs {
namespace {

using OrderedJson = nlohmann::ordered_json;

double PerSecond(double count, double seconds) { return seconds > 0.0 ? count / seconds : 0.0; }

double HitRate(const BenchFigures& figures) {
  return PerSecond(static_cast<double>(figures.cached_tokens),
                   static_cast<double>(figures.prompt_tokens));
}

std::string Loop(const BenchCommand& command) {
  if (command.request_rate > 0.0) {
    return fmt::format("open loop, {} requests/s (Poisson)", command.request_rate);
  }
  return fmt::format("closed loop, {} at a time", command.concurrency);
}

std::string Row(const char* name, const Distribution& seconds) {
  const auto ms = [](double s) { return fmt::format("{:>10.2f}", s * 1e3); };
  return fmt::format("{:<26}{}{}{}{}{}\n", name, ms(seconds.mean), ms(seconds.p50), ms(seconds.p90),
                     ms(seconds.p99), ms(seconds.max));
}

OrderedJson DistributionJson(const Distribution& seconds) {
  return {{"mean", seconds.mean * 1e3}, {"p50", seconds.p50 * 1e3}, {"p90", seconds.p90 * 1e3},
          {"p99", seconds.p99 * 1e3},   {"max", seconds.max * 1e3}, {"count", seconds.count}};
}

}  // namespace

BenchFigures FiguresOf(const BenchRun& run) {
  BenchFigures figures;
  figures.wall_s = run.wall_s;
  std::vector<double> ttft, gaps, total;
  for (const BenchOutcome& outcome : run.outcomes) {
    if (!outcome) {
      BenchErrors& errors = figures.errors[outcome.error().kind];
      if (errors.count++ == 0) errors.example = outcome.error().status.message();
      continue;
    }
    ++figures.completed;
    ttft.push_back(outcome->first_token_s);
    total.push_back(outcome->total_s);
    gaps.insert(gaps.end(), outcome->gaps_s.begin(), outcome->gaps_s.end());
    if (!outcome->usage) continue;
    figures.prompt_tokens += outcome->usage->prompt_tokens;
    figures.output_tokens += outcome->usage->completion_tokens;
    figures.cached_tokens += outcome->usage->cached_tokens.value_or(0);
    figures.cached_tokens_known |= outcome->usage->cached_tokens.has_value();
  }
  figures.ttft_s = Summarize(std::move(ttft));
  figures.inter_token_s = Summarize(std::move(gaps));
  figures.total_s = Summarize(std::move(total));
  return figures;
}

std::string BenchText(const BenchCommand& command, const BenchWorkload& workload,
                      const BenchFigures& figures) {
  std::string text = fmt::format("model {}, {}\n", workload.model, Loop(command));
  text += fmt::format("prompts of {} {} tokens ({} shared, {} prefixes), outputs of {}\n",
                      workload.exact_prompts ? "exactly" : "about", command.prompt_tokens,
                      command.shared_prefix_tokens, command.num_prefixes, command.output_tokens);
  text += fmt::format("{} of {} requests completed in {:.2f} s\n\n", figures.completed,
                      workload.asks.size(), figures.wall_s);
  text += fmt::format("{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "mean", "p50",
                      "p90", "p99", "max");
  text += Row("time to first token", figures.ttft_s);
  text += Row("inter-token latency", figures.inter_token_s);
  text += Row("end to end", figures.total_s);
  const auto rate = [&](const char* name, double count, const char* unit) {
    text += fmt::format("{:<26}{:>10.2f} {}\n", name, PerSecond(count, figures.wall_s), unit);
  };
  text += '\n';
  rate("request throughput", static_cast<double>(figures.completed), "requests/s");
  rate("prompt throughput", static_cast<double>(figures.prompt_tokens), "tokens/s");
  rate("output throughput", static_cast<double>(figures.output_tokens), "tokens/s");
  text += figures.cached_tokens_known
              ? fmt::format("{:<26}{:>10.1f} % ({} of {} prompt tokens)\n", "prefix cache hits",
                            HitRate(figures) * 100.0, figures.cached_tokens, figures.prompt_tokens)
              : fmt::format("{:<26}{:>10}\n", "prefix cache hits", "not reported");
  for (const auto& [kind, errors] : figures.errors) {
    text += fmt::format("errors: {} x {}: {}\n", errors.count, kind, errors.example);
  }
  return text;
}

std::string BenchJson(const BenchCommand& command, const BenchWorkload& workload,
                      const BenchFigures& figures) {
  OrderedJson json;
  json["model"] = workload.model;
  json["num_prompts"] = command.num_prompts;
  if (command.request_rate > 0.0) {
    json["request_rate"] = command.request_rate;
  } else {
    json["concurrency"] = command.concurrency;
  }
  json["prompt_tokens"] = command.prompt_tokens;
  json["exact_prompts"] = workload.exact_prompts;
  json["output_tokens"] = command.output_tokens;
  json["shared_prefix_tokens"] = command.shared_prefix_tokens;
  json["num_prefixes"] = command.num_prefixes;
  json["seed"] = command.seed;
  json["completed"] = figures.completed;
  json["duration_s"] = figures.wall_s;
  json["total_prompt_tokens"] = figures.prompt_tokens;
  json["total_output_tokens"] = figures.output_tokens;
  json["total_cached_tokens"] = nullptr;
  json["prefix_cache_hit_rate"] = nullptr;
  if (figures.cached_tokens_known) {
    json["total_cached_tokens"] = figures.cached_tokens;
    json["prefix_cache_hit_rate"] = HitRate(figures);
  }
  const double wall = figures.wall_s;
  json["request_throughput"] = PerSecond(static_cast<double>(figures.completed), wall);
  json["prompt_throughput"] = PerSecond(static_cast<double>(figures.prompt_tokens), wall);
  json["output_throughput"] = PerSecond(static_cast<double>(figures.output_tokens), wall);
  json["time_to_first_token_ms"] = DistributionJson(figures.ttft_s);
  json["inter_token_latency_ms"] = DistributionJson(figures.inter_token_s);
  json["end_to_end_ms"] = DistributionJson(figures.total_s);
  json["errors"] = OrderedJson::object();
  for (const auto& [kind, errors] : figures.errors) {
    json["errors"][kind] = {{"count", errors.count}, {"example", errors.example}};
  }
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace kvs
