// AnswerFormat: the JSON that a client sees of an answer: one implementation for completions, one
// for each other API over the same generations. What arrives when, who waits, usage, cancellation
// and errors are the caller's (http/completions).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/token_event.h"

namespace kvs {

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;  // always written: absence is read as "not supported"
};

// Why a choice ended.
struct ChoiceEnd {
  const char* finish_reason;  // "stop", "length", "abort"
  std::string stop_reason;    // JSON: the stop string, the stop token's id, or null
};

// The log-probabilities of one choice's text since the last Clear.
class ChoiceLogprobs {
 public:
  virtual ~ChoiceLogprobs() = default;
  // A position whose probability nothing can tell: the first of a prompt (echo).
  virtual void AddUnknown(TokenId token, uint64_t text_offset) = 0;
  virtual void Add(const PositionLogprobs& position, uint64_t text_offset) = 0;
  virtual void Clear() = 0;
};

// Text of one choice: of the whole answer, or since the last piece of a stream.
struct ChoicePiece {
  uint32_t index;
  std::string_view text;           // UTF-8, whole characters; may be empty
  const ChoiceLogprobs* logprobs;  // null: not asked for
  const ChoiceEnd* end;            // null: the choice goes on
};

// Made for one answer, whose choices it may keep state of. Used by one thread at a time.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  // For one choice of a call that asks for logprobs.
  virtual std::unique_ptr<ChoiceLogprobs> NewLogprobs() const = 0;

  // Streamed: adds the events ("data: {...}\n\n") of a piece. `usage` is null unless the client
  // wants it on every chunk.
  virtual void AppendChunk(const ChoicePiece& piece, const Usage* usage, std::string& out) = 0;
  // Streamed: adds the event after all choices that holds the usage alone.
  virtual void AppendUsageChunk(const Usage& usage, std::string& out) = 0;

  // Not streamed: the body. Every choice has its end.
  virtual std::string Whole(const std::vector<ChoicePiece>& choices, const Usage& usage) = 0;
};

inline constexpr std::string_view kStreamEnd = "data: [DONE]\n\n";

}  // namespace kvs
