#include "http/completions.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "http/api_error.h"
#include "http/completion_choice.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

// How long a client may be gone before that is noticed.
constexpr std::chrono::milliseconds kProbeEvery{100};

// What a client that left before its answer is logged with; nobody reads it.
constexpr int kClientClosedRequest = 499;

// One call that the engine has taken.
class CompletionAnswer final : public StreamedBody {
 public:
  CompletionAnswer(CompletionCall call, std::unique_ptr<AnswerFormat> format,
                   const Tokenizer& tokenizer)
      : call_(std::move(call)), format_(std::move(format)), tokenizer_(tokenizer) {
    for (const Prompt& prompt : call_.prompts) usage_.prompt_tokens += prompt.tokens.size();
  }

  Result<void> Submit(EngineHandle& engine);
  HttpResponse Collect(const std::function<bool()>& client_gone);

  bool Advance(std::string& out) override;
  void Abandon() override { CancelAll(); }
  ChannelSignal& signal() override { return *signal_; }

  // For the access log; final once the answer is.
  const std::shared_ptr<TokenCounts>& counts() const { return counts_; }

 private:
  // Applies what has arrived; with `out`, adds a chunk for each piece.
  void Take(std::string* out);
  void AppendChunk(CompletionChoice& choice, std::string& out);
  void UpdateUsage();
  void CancelAll();
  // Null: no choice has failed.
  const CompletionChoice* failed() const;
  bool done() const { return num_ended_ == choices_.size(); }

  CompletionCall call_;
  const std::unique_ptr<AnswerFormat> format_;
  const Tokenizer& tokenizer_;
  const std::shared_ptr<ChannelSignal> signal_ = std::make_shared<ChannelSignal>();
  const std::shared_ptr<TokenCounts> counts_ = std::make_shared<TokenCounts>();
  std::vector<std::unique_ptr<CompletionChoice>> choices_;
  std::vector<TokenEvent> events_;
  size_t num_ended_ = 0;
  Usage usage_;
};

Result<void> CompletionAnswer::Submit(EngineHandle& engine) {
  auto channels = engine.Submit(std::move(call_.requests), signal_);
  if (!channels) return tl::unexpected(channels.error());
  for (std::shared_ptr<TokenChannel>& channel : *channels) {
    const auto index = static_cast<uint32_t>(choices_.size());
    choices_.push_back(
        std::make_unique<CompletionChoice>(call_, index, tokenizer_, std::move(channel),
                                           call_.logprobs ? format_->NewLogprobs() : nullptr));
  }
  return {};
}

void CompletionAnswer::Take(std::string* out) {
  for (const auto& choice : choices_) {
    if (choice->ended()) continue;
    events_.clear();
    choice->Take(events_);
    for (const TokenEvent& event : events_) {
      if (choice->ended()) break;
      choice->Apply(event);
      if (out != nullptr && choice->has_piece()) AppendChunk(*choice, *out);
    }
    if (choice->ended()) ++num_ended_;
  }
}

void CompletionAnswer::AppendChunk(CompletionChoice& choice, std::string& out) {
  if (!choice.error().empty()) return;
  if (call_.continuous_usage) UpdateUsage();
  format_->AppendChunk(choice.piece(), call_.continuous_usage ? &usage_ : nullptr, out);
  choice.ClearPiece();
}

void CompletionAnswer::UpdateUsage() {
  usage_.completion_tokens = 0;
  usage_.cached_tokens = 0;
  for (const auto& choice : choices_) {
    usage_.completion_tokens += choice->num_output_tokens();
    // A prompt is counted once, as its first choice found it.
    if (choice->index() % call_.n == 0) usage_.cached_tokens += choice->num_cached_tokens();
  }
  *counts_ = {static_cast<uint32_t>(usage_.prompt_tokens),
              static_cast<uint32_t>(usage_.completion_tokens),
              static_cast<uint32_t>(usage_.cached_tokens)};
}

void CompletionAnswer::CancelAll() {
  for (const auto& choice : choices_) choice->Cancel();
  UpdateUsage();
}

const CompletionChoice* CompletionAnswer::failed() const {
  const auto has_error = [](const auto& choice) { return !choice->error().empty(); };
  const auto found = std::find_if(choices_.begin(), choices_.end(), has_error);
  return found == choices_.end() ? nullptr : found->get();
}

HttpResponse CompletionAnswer::Collect(const std::function<bool()>& client_gone) {
  auto probed = steady_clock::now();
  while (true) {
    Take(nullptr);
    if (const CompletionChoice* choice = failed(); choice != nullptr) {
      CancelAll();
      return ToResponse(ErrorOfStatus(500, choice->error()));
    }
    if (done()) break;
    const bool woken = signal_->WaitFor(kProbeEvery);
    if (woken && steady_clock::now() - probed < kProbeEvery) continue;
    probed = steady_clock::now();
    if (client_gone()) {
      CancelAll();
      return ToResponse(ErrorOfStatus(kClientClosedRequest, "the client closed the connection"));
    }
  }
  UpdateUsage();
  std::vector<ChoicePiece> whole;
  for (const auto& choice : choices_) whole.push_back(choice->piece());
  HttpResponse response;
  response.body = format_->Whole(whole, usage_);
  return response;
}

bool CompletionAnswer::Advance(std::string& out) {
  Take(&out);
  if (const CompletionChoice* choice = failed(); choice != nullptr) {
    CancelAll();
    out += "data: " + ToJson(ErrorOfStatus(500, choice->error())) + "\n\n";
    return true;
  }
  if (!done()) return false;
  UpdateUsage();
  if (call_.include_usage) format_->AppendUsageChunk(usage_, out);
  out += kStreamEnd;
  return true;
}

}  // namespace

HttpResponse AnswerCompletion(CompletionCall call, std::unique_ptr<AnswerFormat> format,
                              const Tokenizer& tokenizer, EngineHandle& engine,
                              const HttpRequest& request) {
  const bool stream = call.stream;
  const auto answer =
      std::make_shared<CompletionAnswer>(std::move(call), std::move(format), tokenizer);
  if (const auto submitted = answer->Submit(engine); !submitted) {
    return ToResponse(FromStatus(submitted.error()));
  }
  HttpResponse response;
  if (stream) {
    response.content_type = "text/event-stream; charset=utf-8";
    response.headers.emplace_back("Cache-Control", "no-cache");
    response.headers.emplace_back("X-Accel-Buffering", "no");
    response.stream = answer;
  } else {
    response = answer->Collect(request.client_gone);
  }
  response.tokens = answer->counts();
  return response;
}

}  // namespace kvs
