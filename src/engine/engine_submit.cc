// The half of Engine that other threads call: taking requests, and stopping.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/engine.h"

namespace kvs {
namespace {

Status Stopping() { return Status(Code::kUnavailable, "the server is shutting down"); }

// All of a sequence's memory but its token ids, which the scheduler reserves, is taken here: by the
// submitting thread, not between two tokens of others.
Arrival MakeArrival(Request request, const EngineOptions& options,
                    const std::shared_ptr<ChannelSignal>& signal,
                    const std::shared_ptr<CallTally>& call) {
  Arrival arrival;
  arrival.sequence = std::make_unique<Sequence>();
  arrival.sequence->request = std::move(request);
  const Request& kept = arrival.sequence->request;
  arrival.live = std::make_unique<LiveRequest>(LiveRequest{
      .sampler = SequenceSampler(kept, options.scheduler.eos_token_ids, options.vocab_size),
      .channel = std::make_shared<TokenChannel>(options.channel_capacity, signal),
      .call = call,
      .timeline = {.arrival = kept.arrival},
  });
  return arrival;
}

}  // namespace

Result<std::vector<std::shared_ptr<TokenChannel>>> Engine::Submit(
    std::vector<Request> requests, std::shared_ptr<ChannelSignal> signal) {
  const size_t num_requests = requests.size();
  KVS_RETURN_IF_ERROR(CheckFits(requests));
  if (!accepting()) {
    metrics_.OnRejectedStopping(num_requests);
    return tl::unexpected(Stopping());
  }
  if (!TakeSeats(num_requests)) {
    metrics_.OnRejectedQueueFull(num_requests);
    return Error(
        Code::kUnavailable,
        fmt::format("the queue is full: {} requests are being served or wait, and at most "
                    "{} may wait (max_num_queued_reqs); try again later",
                    num_live_.load(std::memory_order_relaxed), options_.max_num_queued_reqs));
  }

  const auto call = std::make_shared<CallTally>();
  call->num_left = static_cast<uint32_t>(num_requests);
  std::vector<Arrival> arrivals;
  std::vector<std::shared_ptr<TokenChannel>> channels;
  arrivals.reserve(num_requests);
  channels.reserve(num_requests);
  for (Request& request : requests) {
    arrivals.push_back(MakeArrival(std::move(request), options_, signal, call));
    channels.push_back(arrivals.back().live->channel);
  }
  AddOpen(static_cast<int64_t>(num_requests));
  if (!inbox_.TryPushAll(arrivals)) {  // closed since; by its size it holds all that have a seat
    AddOpen(-static_cast<int64_t>(num_requests));
    num_live_.fetch_sub(static_cast<uint32_t>(num_requests), std::memory_order_relaxed);
    metrics_.OnRejectedStopping(num_requests);
    return tl::unexpected(Stopping());
  }
  return channels;
}

Result<void> Engine::CheckFits(const std::vector<Request>& requests) const {
  const size_t most = MostLive();
  if (requests.size() > most) {
    return Error(Code::kInvalidArgument,
                 fmt::format("the call asks for {} generations at once; at most {} are taken "
                             "(max_num_seqs plus max_num_queued_reqs)",
                             requests.size(), most),
                 "n");
  }
  for (const Request& request : requests) {
    const auto num_prompt = static_cast<uint32_t>(request.prompt.size());
    const uint32_t max_tokens = request.sampling.max_tokens;
    if (scheduler_.CanEverFit(num_prompt, max_tokens)) continue;
    return Error(
        Code::kInvalidArgument,
        fmt::format("a prompt of {} tokens with max_tokens {} can never be served: the KV cache "
                    "holds {} tokens and the context length is {}",
                    num_prompt, max_tokens, info_.kv_pool_tokens, info_.max_model_len),
        "max_tokens");
  }
  return {};
}

size_t Engine::MostLive() const {
  return size_t{options_.scheduler.limits.max_num_seqs} + options_.max_num_queued_reqs;
}

bool Engine::TakeSeats(size_t num_requests) {
  const size_t most =
      size_t{num_seats_.load(std::memory_order_relaxed)} + options_.max_num_queued_reqs;
  uint32_t num_live = num_live_.load(std::memory_order_relaxed);
  do {
    if (num_live + num_requests > most) return false;
  } while (!num_live_.compare_exchange_weak(
      num_live, num_live + static_cast<uint32_t>(num_requests), std::memory_order_relaxed));
  return true;
}

Result<ResetResult> Engine::ResetPrefixCache() {
  std::vector<std::promise<Result<ResetResult>>> reset(1);
  std::future<Result<ResetResult>> answer = reset[0].get_future();
  if (!resets_.TryPushAll(reset)) {
    if (!accepting()) return tl::unexpected(Stopping());
    return Error(Code::kUnavailable,
                 fmt::format("{} resets of the prefix cache are already waiting; try again later",
                             kMaxPendingResets));
  }
  inbox_.Wake();
  return answer.get();
}

double Engine::SecondsSinceHeartbeat() const {
  const SteadyTime last = heartbeat_.load(std::memory_order_relaxed);
  return std::max(0.0,
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - last).count());
}

void Engine::BeginStop() {
  resets_.Close();  // before the inbox: whoever sees that closed has seen the last reset
  inbox_.Close();
}

bool Engine::WaitIdle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(open_mutex_);
  return none_open_.wait_for(lock, timeout, [this] { return num_open_ == 0; });
}

void Engine::Shutdown() {
  BeginStop();
  abort_.store(true, std::memory_order_relaxed);
  const std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Engine::AddOpen(int64_t change) {
  const std::lock_guard lock(open_mutex_);
  num_open_ += change;
  if (num_open_ == 0) none_open_.notify_all();
}

}  // namespace kvs
