// Server-sent events, as far as OpenAI's streams use them: the data of each event, whatever the
// pieces in which the bytes arrive.
//
// Source: HTML Living Standard, "Server-sent events", section 9.2.6.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace kvs {

class SseParser {
 public:
  // Longest line and longest event accepted; a stream beyond it is damaged or hostile.
  static constexpr size_t kMaxEventBytes = size_t{16} << 20;

  // Called with the data of one event: its "data:" lines joined by '\n'. Returns false to stop.
  using OnData = std::function<bool(std::string_view data)>;

  explicit SseParser(OnData on_data) : on_data_(std::move(on_data)) {}

  // Takes the next bytes. Returns false once `on_data` has, or when an event is too long; further
  // calls then return false. An event without its blank line at the end of a stream is dropped.
  bool Feed(std::string_view bytes);

 private:
  bool EndLine();

  OnData on_data_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;  // a '\n' right after '\r' belongs to the same line end
  bool stopped_ = false;
};

}  // namespace kvs
