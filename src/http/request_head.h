// RequestHead: the strict reading of an HTTP/1.1 request head (RFC 9112, RFC 9110). What a lenient
// server might frame differently than a proxy in front of it (both length headers, a bare LF, a
// space before the colon, a folded line) is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "http/http_message.h"

namespace kvs {

inline constexpr size_t kMaxHeadBytes = 16u << 10;
inline constexpr size_t kMaxTargetBytes = 8u << 10;
inline constexpr size_t kMaxHeaderFields = 100;

struct RequestHead {
  std::string method;
  std::string path;  // percent-decoded
  HttpHeaders headers;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool http_1_0 = false;
  bool expects_continue = false;

  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

struct HeadError {
  int status;  // 400, 414, 415, 417, 431, 501 or 505
  std::string message;
};

// Looks for the end of the head in what has arrived so far. `from` is how much of it was searched
// before. Returns the head's size with its blank line; nullopt while more is needed.
tl::expected<std::optional<size_t>, HeadError> FindHeadEnd(std::string_view received, size_t from);

// `head` ends with its blank line.
tl::expected<RequestHead, HeadError> ParseRequestHead(std::string_view head);

}  // namespace kvs
