#include "http/request_head.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvs {
namespace {

tl::unexpected<HeadError> Bad(std::string message, int status = 400) {
  return tl::unexpected(HeadError{status, std::move(message)});
}

bool IsTokenChar(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  return std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

char LowerOf(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), LowerOf);
  return lower;
}

std::string_view Trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Whether a comma-separated header value has `token`.
bool HasToken(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (Lower(Trim(list.substr(0, comma))) == token) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = LowerOf(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = HexValue(text[i + 1]);
      const int low = HexValue(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
      i += 2;
    }
    decoded.push_back(c);
  }
  return decoded;
}

tl::expected<void, HeadError> ParseRequestLine(std::string_view line, RequestHead& head) {
  const size_t first = line.find(' ');
  const size_t second = first == line.npos ? line.npos : line.find(' ', first + 1);
  if (second == line.npos || line.find(' ', second + 1) != line.npos) {
    return Bad("the request line is not 'METHOD TARGET VERSION'");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  if (!IsToken(method) || method.size() > 32) return Bad("the request's method is not a token");
  if (target.size() > kMaxTargetBytes) {
    return Bad(fmt::format("the request target has {} bytes; at most {} are read", target.size(),
                           kMaxTargetBytes),
               414);
  }
  if (target.empty() || target[0] != '/') return Bad("the request target does not begin with '/'");
  const bool printable =
      std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  auto path = PercentDecode(target.substr(0, target.find_first_of("?#")));
  if (!printable || !path) return Bad("the request target is not a valid URL path");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return Bad("only HTTP/1.1 and HTTP/1.0 are spoken here", 505);
  }
  head.method = method;
  head.path = *std::move(path);
  head.http_1_0 = version == "HTTP/1.0";
  return {};
}

tl::expected<void, HeadError> ParseField(std::string_view line, RequestHead& head) {
  const size_t colon = line.find(':');
  if (colon == line.npos || !IsToken(line.substr(0, colon))) {
    return Bad("a header line is not 'Name: value'");
  }
  const std::string_view value = Trim(line.substr(colon + 1));
  for (const char c : value) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) {
      return Bad("a header value has a control character");
    }
  }
  if (head.headers.size() == kMaxHeaderFields) {
    return Bad(fmt::format("more than {} header fields", kMaxHeaderFields), 431);
  }
  head.headers.emplace_back(Lower(line.substr(0, colon)), value);
  return {};
}

// The value of a header that may be there once; null when it is not there.
tl::expected<const std::string*, HeadError> Single(const RequestHead& head, std::string_view name) {
  const std::string* found = nullptr;
  for (const auto& [key, value] : head.headers) {
    if (key != name) continue;
    if (found != nullptr) return Bad(fmt::format("the header '{}' is given twice", name));
    found = &value;
  }
  return found;
}

tl::expected<void, HeadError> ReadFraming(RequestHead& head) {
  const auto length = Single(head, "content-length");
  if (!length) return tl::unexpected(length.error());
  const auto coding = Single(head, "transfer-encoding");
  if (!coding) return tl::unexpected(coding.error());
  if (*length != nullptr && *coding != nullptr) {
    return Bad("both Content-Length and Transfer-Encoding are given");
  }
  if (*length != nullptr) {
    const std::string& digits = **length;
    const bool decimal = !digits.empty() && digits.size() <= 18 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
    if (!decimal) return Bad("Content-Length is not a decimal number below 10^18");
    head.content_length = std::stoull(digits);
  }
  if (*coding != nullptr) {
    if (head.http_1_0) return Bad("Transfer-Encoding in an HTTP/1.0 request");
    if (Lower(**coding) != "chunked") return Bad("Transfer-Encoding other than 'chunked'", 501);
    head.chunked = true;
  }
  return {};
}

tl::expected<void, HeadError> ReadControls(RequestHead& head) {
  const auto host = Single(head, "host");
  if (!host) return tl::unexpected(host.error());
  if (*host == nullptr && !head.http_1_0) return Bad("the header 'Host' is missing");
  head.keep_alive = !head.http_1_0;
  for (const auto& [key, value] : head.headers) {
    if (key == "connection") {
      if (head.http_1_0 && HasToken(value, "keep-alive")) head.keep_alive = true;
      if (HasToken(value, "close")) head.keep_alive = false;
    } else if (key == "content-encoding" && Lower(value) != "identity") {
      return Bad("Content-Encoding is not supported: send the body as it is", 415);
    } else if (key == "expect") {
      if (Lower(value) != "100-continue") return Bad("Expect other than '100-continue'", 417);
      head.expects_continue = true;
    }
  }
  return {};
}

}  // namespace

tl::expected<std::optional<size_t>, HeadError> FindHeadEnd(std::string_view received, size_t from) {
  if (!received.empty() && !IsTokenChar(received[0])) return Bad("this is not an HTTP request");
  for (size_t i = received.find('\n', from); i != received.npos; i = received.find('\n', i + 1)) {
    if (i == 0 || received[i - 1] != '\r') return Bad("a line does not end with CR LF");
    if (i + 1 > kMaxHeadBytes) break;
    if (i >= 3 && received[i - 2] == '\n') return std::optional<size_t>(i + 1);
  }
  if (received.size() >= kMaxHeadBytes) {
    const bool in_request_line = received.find('\n') == received.npos;
    return Bad(fmt::format("the request head is larger than {} bytes", kMaxHeadBytes),
               in_request_line ? 414 : 431);
  }
  return std::optional<size_t>();
}

tl::expected<RequestHead, HeadError> ParseRequestHead(std::string_view head_text) {
  RequestHead head;
  bool first = true;
  while (true) {
    const size_t end = head_text.find("\r\n");
    if (end == head_text.npos) return Bad("the request head has no end");
    const std::string_view line = head_text.substr(0, end);
    head_text.remove_prefix(end + 2);
    if (line.find('\r') != line.npos) return Bad("a line has a CR in it");
    if (line.empty() && !first) break;
    const auto parsed = first ? ParseRequestLine(line, head) : ParseField(line, head);
    if (!parsed) return tl::unexpected(parsed.error());
    first = false;
  }
  if (const auto read = ReadFraming(head); !read) return tl::unexpected(read.error());
  if (const auto read = ReadControls(head); !read) return tl::unexpected(read.error());
  return head;
}

}  // namespace kvs
