// From a valid call to its answer, whole or streamed, in whatever format.
#pragma once

#include <memory>

#include "engine/engine_handle.h"
#include "http/answer_format.h"
#include "http/http_message.h"
#include "http/openai_parse.h"
#include "tokenize/tokenizer.h"

namespace kvs {

// Submits the call and waits for its answer; a streamed one begins as soon as the engine has taken
// the call. A client that leaves cancels its requests, streaming or not. 503 when the engine takes
// no more. `tokenizer` outlives the response.
HttpResponse AnswerCompletion(CompletionCall call, std::unique_ptr<AnswerFormat> format,
                              const Tokenizer& tokenizer, EngineHandle& engine,
                              const HttpRequest& request);

}  // namespace kvs
