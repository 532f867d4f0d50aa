// LiveRequest: what the engine keeps of a request beside its Sequence, from Submit to its last
// event. Made by the submitting thread, then used by the engine thread alone.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/engine_metrics.h"
#include "sample/sequence_sampler.h"
#include "schedule/sequence.h"
#include "stream/token_channel.h"

namespace kvs {

// The generations of one Submit, for metrics by call.
struct CallTally {
  uint32_t num_left = 0;
  uint32_t max_num_output_tokens = 0;
};

struct LiveRequest {
  SequenceSampler sampler;
  std::shared_ptr<TokenChannel> channel;
  std::shared_ptr<CallTally> call;
  RequestTimeline timeline;
  bool was_scheduled = false;
  bool had_event = false;
};

// A request on its way through the inbox.
struct Arrival {
  std::unique_ptr<Sequence> sequence;
  std::unique_ptr<LiveRequest> live;  // refers to sequence->request
};

}  // namespace kvs
