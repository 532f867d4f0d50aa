// POST /v1/completions: from a valid call to its answer, whole or streamed.
#pragma once

#include "engine/engine_handle.h"
#include "http/http_message.h"
#include "http/openai_format.h"
#include "http/openai_parse.h"
#include "tokenize/tokenizer.h"

namespace kvs {

// Submits the call and waits for its answer; a streamed one begins as soon as the engine has taken
// the call. A client that leaves cancels its requests, streaming or not. 503 when the engine takes
// no more. `tokenizer` outlives the response.
HttpResponse AnswerCompletion(CompletionCall call, AnswerHead head, const Tokenizer& tokenizer,
                              EngineHandle& engine, const HttpRequest& request);

}  // namespace kvs
