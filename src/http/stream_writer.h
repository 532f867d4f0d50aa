// StreamWriter: one thread that writes every streamed answer.
//
// The engine wakes it once a step; it then turns the step's events into text, all of them, and
// sends each client its part, without ever waiting for one. What a client does not take is kept, at
// most one piece; its further events wait in their channels, whose bound ends the request of a
// reader too slow. The connection's own thread sleeps until its answer is written.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/file_descriptor.h"
#include "http/connection.h"
#include "http/http_message.h"
#include "stream/ready_queue.h"

namespace kvs {

class StreamWriter {
 public:
  enum class Framing : uint8_t { kChunked, kUntilClose };

  // `stop_fd` becomes readable, for good, when the server stops: bodies not at their end are then
  // cut.
  explicit StreamWriter(int stop_fd);
  // REQUIRES: no Write runs.
  ~StreamWriter();

  // Lends the connection to the writer until the body is sent, but for the last chunk's mark. False
  // when the client did not get all of it: it left, took nothing for the connection's send
  // timeout, the server stopped, or the body broke. A body is not asked again after that.
  // Thread-safe.
  bool Write(Connection& connection, StreamedBody& body, Framing framing);

 private:
  struct Stream;

  // A part of batch_ and whom it goes to.
  struct Piece {
    Stream* stream;
    size_t begin;
    size_t end;
  };

  void Run();
  void TakeNew();
  // Collects and sends what has come for the streams of keys_.
  void ServeReady();
  // Adds what the stream's body has by now to the batch.
  void Collect(Stream& stream);
  void FrameFrom(size_t& begin);
  void SendBatch();
  void OnSocket(Stream& stream, uint32_t events);
  // Keeps what the client does not take. Ends the stream when that was all of it.
  void Send(Stream& stream, std::string_view bytes);
  void WaitFor(Stream& stream, uint32_t events);
  void End(Stream& stream, bool complete);
  void Cut(Stream& stream);
  void CutLate();
  void BeginStop();
  // Milliseconds until the first client is late; -1: none waits.
  int Timeout() const;
  Stream* Find(uint64_t key);

  const int stop_fd_;
  const FileDescriptor epoll_;
  const std::shared_ptr<ReadyQueue> ready_ = std::make_shared<ReadyQueue>();

  std::mutex mutex_;
  uint64_t next_key_;                              // guarded by mutex_
  std::vector<std::shared_ptr<Stream>> incoming_;  // guarded by mutex_
  bool quit_ = false;                              // guarded by mutex_

  // The writer's thread only.
  std::unordered_map<uint64_t, std::shared_ptr<Stream>> streams_;
  std::vector<std::shared_ptr<Stream>> new_streams_;
  std::vector<uint64_t> keys_;
  std::vector<Stream*> queue_;  // of those, each once
  std::string batch_;
  std::vector<Piece> pieces_;
  size_t num_waiting_ = 0;  // streams whose client has not taken all
  bool stopped_ = false;

  std::thread thread_;  // last: everything it uses exists before it
};

}  // namespace kvs
