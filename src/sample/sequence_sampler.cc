#include "sample/sequence_sampler.h"

#include <algorithm>
#include <utility>

#include "kvserve/check.h"
#include "sample/philox.h"

namespace kvs {
namespace {

bool HasPenalty(const SamplingParams& params) {
  return params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f ||
         params.repetition_penalty != 1.0f;
}

}  // namespace

SequenceSampler::SequenceSampler(const Request& request, std::span<const TokenId> eos_token_ids,
                                 uint32_t vocab_size)
    : params_(request.sampling),
      num_prompt_tokens_(static_cast<uint32_t>(request.prompt.size())),
      vocab_size_(vocab_size),
      counts_tokens_(HasPenalty(request.sampling)) {
  if (counts_tokens_) {
    const uint64_t num_tokens = uint64_t{num_prompt_tokens_} + params_.max_tokens;
    counts_.reserve(std::min<uint64_t>(num_tokens, vocab_size));
    // Presence and frequency look at output alone; only repetition looks at the prompt as well.
    if (params_.repetition_penalty != 1.0f) CountPrompt(request.prompt);
  }
  biases_.reserve(params_.logit_bias.size());
  for (const auto& [token, bias] : params_.logit_bias) biases_.push_back({token, bias});
  if (params_.min_tokens > 0) {
    const auto ban = [this](TokenId token) {
      if (token.value < vocab_size_) banned_.push_back(token);
    };
    for (const TokenId token : params_.stop_token_ids) ban(token);
    if (!params_.ignore_eos) {
      for (const TokenId token : eos_token_ids) ban(token);
    }
  }
  if (params_.num_prompt_logprobs.has_value()) {
    prompt_logprobs_ = std::make_unique<std::vector<PositionLogprobs>>();
    prompt_logprobs_->reserve(num_prompt_tokens_ - 1);
  }
}

void SequenceSampler::CountPrompt(std::span<const TokenId> prompt) {
  std::vector<TokenId> sorted(prompt.begin(), prompt.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (const TokenId token : sorted) counts_.push_back({token, 0});
}

uint32_t SequenceSampler::next_prompt_row() const {
  return prompt_logprobs_ == nullptr ? num_prompt_tokens_
                                     : static_cast<uint32_t>(prompt_logprobs_->size());
}

SampleRow SequenceSampler::DrawRow(uint32_t logits_row, uint32_t output_position) const {
  SampleRow row{};
  row.logits_row = logits_row;
  row.temperature = params_.temperature;
  row.top_p = params_.top_p;
  row.min_p = params_.min_p;
  row.top_k = params_.top_k;
  row.presence_penalty = params_.presence_penalty;
  row.frequency_penalty = params_.frequency_penalty;
  row.repetition_penalty = params_.repetition_penalty;
  row.uniform = UniformAt(params_.seed, output_position);
  row.counts = counts_.data();
  row.num_counts = static_cast<uint32_t>(counts_.size());
  row.biases = biases_.data();
  row.num_biases = static_cast<uint32_t>(biases_.size());
  row.banned = banned_.data();
  row.num_banned = output_position < params_.min_tokens ? static_cast<uint32_t>(banned_.size()) : 0;
  row.draw = true;
  row.given = kNoToken;
  row.num_logprobs =
      params_.num_logprobs.has_value() ? static_cast<int32_t>(*params_.num_logprobs) : -1;
  return row;
}

SampleRow SequenceSampler::PromptRow(uint32_t logits_row, TokenId given) const {
  SampleRow row{};
  row.logits_row = logits_row;
  row.top_p = 1.0f;
  row.repetition_penalty = 1.0f;
  row.draw = false;
  row.given = given;
  row.num_logprobs = static_cast<int32_t>(params_.num_prompt_logprobs.value());
  return row;
}

void SequenceSampler::CountOutput(TokenId token) {
  if (!counts_tokens_) return;
  // Moving the tail costs no more than the sampling kernel's walk over all counts in each step.
  const auto at = std::lower_bound(counts_.begin(), counts_.end(), token,
                                   [](const TokenCount& a, TokenId b) { return a.token < b; });
  if (at != counts_.end() && at->token == token) {
    ++at->output_count;
  } else {
    counts_.insert(at, {token, 1});
  }
}

void SequenceSampler::AddPromptLogprobs(const SampleResult& result) {
  KVS_CHECK(prompt_logprobs_ != nullptr);
  KVS_CHECK_OP(prompt_logprobs_->size() + 1, <, num_prompt_tokens_);
  failed_ = failed_ || result.token == kNoToken;
  prompt_logprobs_->push_back(ToLogprobs(result, params_.num_prompt_logprobs.value()));
}

std::unique_ptr<std::vector<PositionLogprobs>> SequenceSampler::TakePromptLogprobs() {
  return std::move(prompt_logprobs_);
}

std::unique_ptr<PositionLogprobs> SequenceSampler::OutputLogprobs(
    const SampleResult& result) const {
  if (!params_.num_logprobs.has_value()) return nullptr;
  return std::make_unique<PositionLogprobs>(ToLogprobs(result, *params_.num_logprobs));
}

PositionLogprobs SequenceSampler::ToLogprobs(const SampleResult& result, uint32_t num_top) const {
  PositionLogprobs logprobs;
  logprobs.chosen = {result.token, result.logprob};
  logprobs.chosen_rank = result.rank;
  num_top = std::min({num_top, kMaxLogprobs, vocab_size_});
  logprobs.top.reserve(num_top);
  for (uint32_t i = 0; i < num_top; ++i) {
    logprobs.top.push_back({result.top_ids[i], result.top_logprobs[i]});
  }
  return logprobs;
}

}  // namespace kvs
