#include "http/stream_writer.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "base/log.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

// How long a client may take to read what was sent when the server stops.
constexpr std::chrono::milliseconds kLastReadGrace{500};

// What is collected before it is sent: far more than a step brings, and a bound on the batch.
constexpr size_t kBatchBytes = 256u << 10;
// Room for the size of a chunk and its line end.
constexpr size_t kChunkHeadBytes = 18;

// Keys below are not streams'.
constexpr uint64_t kReadyKey = 0;
constexpr uint64_t kStopKey = 1;
constexpr uint64_t kFirstStreamKey = 2;

void Watch(int epoll, int operation, int fd, uint32_t events, uint64_t key) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = key;
  KVS_CHECK(epoll_ctl(epoll, operation, fd, &event) == 0);
}

}  // namespace

struct StreamWriter::Stream {
  Stream(uint64_t key_in, Connection& connection_in, StreamedBody& body_in, Framing framing_in)
      : key(key_in), connection(connection_in), body(body_in), framing(framing_in) {}

  void Prefetch() const {
    __builtin_prefetch(&connection);
    __builtin_prefetch(&body, 1);
  }

  const uint64_t key;
  Connection& connection;
  StreamedBody& body;
  const Framing framing;
  // The writer's thread only.
  bool body_ended = false;
  bool queued = false;  // in queue_
  bool in_batch = false;
  bool waiting = false;  // for the client to take `unsent`
  std::string unsent;
  SteadyTime deadline{};  // of a waiting one

  std::mutex mutex;
  std::condition_variable ended_changed;
  bool ended = false;     // guarded by mutex
  bool complete = false;  // guarded by mutex
};

StreamWriter::StreamWriter(int stop_fd)
    : stop_fd_(stop_fd), epoll_(epoll_create1(EPOLL_CLOEXEC)), next_key_(kFirstStreamKey) {
  KVS_CHECK(epoll_.valid());
  Watch(epoll_.get(), EPOLL_CTL_ADD, ready_->fd(), EPOLLIN | EPOLLET, kReadyKey);
  Watch(epoll_.get(), EPOLL_CTL_ADD, stop_fd_, EPOLLIN, kStopKey);
  thread_ = std::thread([this] { Run(); });
}

StreamWriter::~StreamWriter() {
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
  }
  ready_->Wake();
  thread_.join();
  KVS_CHECK(streams_.empty());
}

bool StreamWriter::Write(Connection& connection, StreamedBody& body, Framing framing) {
  std::shared_ptr<Stream> stream;
  {
    const std::lock_guard lock(mutex_);
    stream = std::make_shared<Stream>(next_key_++, connection, body, framing);
    body.signal().ReportTo(ready_, stream->key);
    incoming_.push_back(stream);
  }
  ready_->Wake();
  std::unique_lock lock(stream->mutex);
  stream->ended_changed.wait(lock, [&] { return stream->ended; });
  return stream->complete;
}

void StreamWriter::Run() {
  pthread_setname_np(pthread_self(), "stream-writer");  // for top and perf
  std::array<epoll_event, 256> events;
  while (true) {
    const int num_events =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), Timeout());
    KVS_CHECK(num_events >= 0 || errno == EINTR);
    ready_->TakeAll(keys_);
    TakeNew();
    ServeReady();
    bool stop = false;
    for (int i = 0; i < num_events; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      stop = stop || event.data.u64 == kStopKey;
      if (Stream* stream = Find(event.data.u64)) OnSocket(*stream, event.events);
    }
    SendBatch();  // of those whose client has caught up
    if (stop) BeginStop();
    if (num_waiting_ > 0) CutLate();
    const std::lock_guard lock(mutex_);
    if (quit_) return;
  }
}

StreamWriter::Stream* StreamWriter::Find(uint64_t key) {
  const auto found = streams_.find(key);
  return found == streams_.end() ? nullptr : found->second.get();
}

void StreamWriter::TakeNew() {
  new_streams_.clear();
  {
    const std::lock_guard lock(mutex_);
    new_streams_.swap(incoming_);
  }
  for (const std::shared_ptr<Stream>& stream : new_streams_) {
    streams_.emplace(stream->key, stream);
    Watch(epoll_.get(), EPOLL_CTL_ADD, stream->connection.fd(), EPOLLRDHUP, stream->key);
    Collect(*stream);  // what came before its key was known
  }
  SendBatch();
  if (!stopped_) return;
  for (const std::shared_ptr<Stream>& stream : new_streams_) {
    if (!stream->body_ended && Find(stream->key) != nullptr) Cut(*stream);
  }
}

// A stream was last looked at a step ago, so that all it points to is out of the caches: what is
// known to come is fetched while others are served.
void StreamWriter::ServeReady() {
  queue_.clear();
  for (const uint64_t key : keys_) {
    Stream* stream = Find(key);
    if (stream == nullptr || stream->queued) continue;
    stream->queued = true;
    stream->Prefetch();
    queue_.push_back(stream);
  }
  // Each is there once, so none has ended before its turn.
  for (Stream* stream : queue_) {
    stream->queued = false;
    Collect(*stream);
  }
  SendBatch();
}

void StreamWriter::Collect(Stream& stream) {
  // Of one whose client does not read, the events wait in their channels.
  if (stream.waiting || stream.in_batch || stream.body_ended) return;
  const size_t size = batch_.size();
  try {
    if (stream.framing == Framing::kChunked) batch_.append(kChunkHeadBytes, ' ');
    Piece piece{&stream, batch_.size(), 0};
    stream.body_ended = stream.body.Advance(batch_);
    if (stream.framing == Framing::kChunked) FrameFrom(piece.begin);
    piece.end = batch_.size();
    pieces_.push_back(piece);
    stream.in_batch = true;
  } catch (const std::exception& error) {
    // Memory that could not be had ends one answer, not the others.
    LOG_ERROR("a streamed answer broke: {}", error.what());
    batch_.resize(size);
    return Cut(stream);
  }
  if (batch_.size() >= kBatchBytes) SendBatch();
}

// Makes a chunk of the batch's end from `begin` on, and lets `begin` be where that chunk begins.
void StreamWriter::FrameFrom(size_t& begin) {
  const size_t size = batch_.size() - begin;
  if (size == 0) return;
  std::array<char, kChunkHeadBytes> head;
  const char* end = fmt::format_to(head.data(), "{:x}\r\n", size);
  const auto head_size = static_cast<size_t>(end - head.data());
  begin -= head_size;
  std::memcpy(batch_.data() + begin, head.data(), head_size);
  batch_ += "\r\n";
}

void StreamWriter::SendBatch() {
  const std::string_view batch = batch_;
  for (const Piece& piece : pieces_) {
    piece.stream->in_batch = false;
    Send(*piece.stream, batch.substr(piece.begin, piece.end - piece.begin));
  }
  pieces_.clear();
  batch_.clear();
}

void StreamWriter::OnSocket(Stream& stream, uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return Cut(stream);
  if (!stream.waiting) return;
  const uint64_t key = stream.key;
  const std::string unsent = std::exchange(stream.unsent, {});
  Send(stream, unsent);
  if (Stream* kept = Find(key)) Collect(*kept);  // what came while the client did not read
}

void StreamWriter::Send(Stream& stream, std::string_view bytes) {
  const size_t num_before = bytes.size();
  const Connection::Sent sent = stream.connection.WriteSome(bytes);
  if (sent == Connection::Sent::kClosed) return Cut(stream);
  if (sent == Connection::Sent::kAll) {
    if (stream.waiting) WaitFor(stream, 0);
    if (stream.body_ended) End(stream, true);
    return;
  }
  if (bytes.size() < num_before || !stream.waiting) {
    const std::chrono::milliseconds timeout = stream.connection.send_timeout();
    stream.deadline = steady_clock::now() + (stopped_ ? kLastReadGrace : timeout);
  }
  try {
    stream.unsent = bytes;
  } catch (const std::bad_alloc&) {
    return Cut(stream);
  }
  WaitFor(stream, sent == Connection::Sent::kWaitsToRead ? EPOLLIN : EPOLLOUT);
}

void StreamWriter::WaitFor(Stream& stream, uint32_t events) {
  Watch(epoll_.get(), EPOLL_CTL_MOD, stream.connection.fd(), EPOLLRDHUP | events, stream.key);
  const bool waiting = events != 0;
  if (waiting != stream.waiting) num_waiting_ += waiting ? 1 : -1;
  stream.waiting = waiting;
}

void StreamWriter::Cut(Stream& stream) {
  if (!stream.body_ended) stream.body.Abandon();
  End(stream, false);
}

// `stream` is gone after this but for those who hold it.
void StreamWriter::End(Stream& stream, bool complete) {
  if (stream.waiting) --num_waiting_;
  KVS_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stream.connection.fd(), nullptr) == 0);
  const auto found = streams_.find(stream.key);
  const std::shared_ptr<Stream> kept = std::move(found->second);
  streams_.erase(found);
  const std::lock_guard lock(kept->mutex);
  kept->ended = true;
  kept->complete = complete;
  kept->ended_changed.notify_all();
}

void StreamWriter::CutLate() {
  const SteadyTime now = steady_clock::now();
  keys_.clear();
  for (const auto& [key, stream] : streams_) {
    if (stream->waiting && stream->deadline <= now) keys_.push_back(key);
  }
  for (const uint64_t key : keys_) Cut(*Find(key));
}

// Every stream has been given what came before the stop: those not at their end have none.
void StreamWriter::BeginStop() {
  stopped_ = true;
  KVS_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stop_fd_, nullptr) == 0);
  const SteadyTime latest = steady_clock::now() + kLastReadGrace;
  std::vector<uint64_t> keys;
  for (const auto& [key, stream] : streams_) {
    stream->deadline = std::min(stream->deadline, latest);
    keys.push_back(key);
  }
  for (const uint64_t key : keys) {
    if (!Find(key)->body_ended) Cut(*Find(key));
  }
}

int StreamWriter::Timeout() const {
  if (num_waiting_ == 0) return -1;
  SteadyTime first = SteadyTime::max();
  for (const auto& [key, stream] : streams_) {
    if (stream->waiting) first = std::min(first, stream->deadline);
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30));
}

}  // namespace kvs
