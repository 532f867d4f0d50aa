#include "net/http_fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace kvs {
namespace {

constexpr size_t kHeadBytesMax = 64u << 10;
constexpr size_t kChunkLineBytesMax = 256;
constexpr size_t kBufferBytes = 64u << 10;

tl::unexpected<Status> Malformed(std::string_view what) {
  return Error(Code::kUnavailable, fmt::format("the response is no HTTP: {}", what));
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

template <class T>
std::optional<T> WholeNumber(std::string_view text, int base) {
  T number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

// A proxy is told the server as part of the target, unless it only passes bytes on.
std::string HeadOf(const Url& server, const std::string& bearer, const FetchRequest& request,
                   const Proxy* proxy) {
  const bool v6 = server.host.find(':') != std::string::npos;
  const bool usual_port = server.port == (server.tls ? 443 : 80);
  const std::string host = fmt::format("{}{}{}{}", v6 ? "[" : "", server.host, v6 ? "]" : "",
                                       usual_port ? "" : fmt::format(":{}", server.port));
  const bool through = proxy != nullptr && !server.tls;
  std::string head = fmt::format(
      "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kvserve\r\nAccept: */*\r\n"
      "Accept-Encoding: identity\r\nConnection: close\r\n",
      request.method, through ? "http://" + host : "", request.target, host);
  if (through) head += ProxyAuthorization(*proxy);
  if (!bearer.empty()) head += fmt::format("Authorization: Bearer {}\r\n", bearer);
  for (const auto& [name, value] : request.headers) head += fmt::format("{}: {}\r\n", name, value);
  return head + "\r\n";
}

// The response to one request, as it comes off the stream.
class Reader {
 public:
  Reader(TcpStream& stream, const FetchRequest& request) : stream_(stream), request_(request) {}

  Result<FetchResponse> Run() {
    do {
      KVS_RETURN_IF_ERROR(ReadHead());
    } while (response_.status >= 100 && response_.status < 200);
    streamed_ = request_.on_head && request_.on_head(response_);
    const bool has_body = !EqualsIgnoringCase(request_.method, "HEAD") && response_.status != 204 &&
                          response_.status != 304;
    if (has_body) KVS_RETURN_IF_ERROR(ReadBody());
    return std::move(response_);
  }

 private:
  // Adds what comes next to unread_; false at the end of the stream.
  Result<bool> More() {
    char buffer[kBufferBytes];
    const auto size = stream_.Read(buffer, sizeof(buffer));
    if (!size) return tl::unexpected(size.error());
    unread_.append(buffer, *size);
    return *size > 0;
  }

  // Up to and without the next `end`, which is taken too.
  Result<std::string> ReadUntil(std::string_view end, size_t bytes_max) {
    size_t found;
    while ((found = unread_.find(end)) == std::string::npos) {
      if (unread_.size() > bytes_max) return Malformed("a line without an end");
      const auto more = More();
      if (!more) return tl::unexpected(more.error());
      if (!*more) {
        return Error(Code::kUnavailable,
                     "the connection was closed before the response was complete");
      }
    }
    std::string text = unread_.substr(0, found);
    unread_.erase(0, found + end.size());
    return text;
  }

  Result<void> ReadHead() {
    const auto head = ReadUntil("\r\n\r\n", kHeadBytesMax);
    if (!head) return tl::unexpected(head.error());
    std::string_view rest = *head;
    const auto next_line = [&] {
      const std::string_view line = rest.substr(0, rest.find("\r\n"));
      rest.remove_prefix(std::min(rest.size(), line.size() + 2));
      return line;
    };
    const std::string_view line = next_line();
    const auto status = line.size() >= 12 && line.substr(0, 7) == "HTTP/1." && line[8] == ' '
                            ? WholeNumber<int>(line.substr(9, 3), 10)
                            : std::nullopt;
    if (!status || *status < 100) return Malformed("it has no status");
    response_ = {*status, {}, {}};
    while (!rest.empty()) {
      const std::string_view header = next_line();
      const size_t colon = header.find(':');
      if (colon == std::string_view::npos) return Malformed("a header without a colon");
      response_.headers.emplace_back(header.substr(0, colon), Trim(header.substr(colon + 1)));
    }
    return {};
  }

  Result<void> ReadBody() {
    if (EqualsIgnoringCase(response_.Header("Transfer-Encoding"), "chunked")) return ReadChunks();
    const std::string_view length = response_.Header("Content-Length");
    if (length.empty()) return ReadBytes(UINT64_MAX);
    const auto bytes = WholeNumber<uint64_t>(length, 10);
    if (!bytes) return Malformed("its Content-Length is no number");
    return ReadBytes(*bytes);
  }

  Result<void> ReadChunks() {
    while (true) {
      const auto line = ReadUntil("\r\n", kChunkLineBytesMax);
      if (!line) return tl::unexpected(line.error());
      const auto bytes = WholeNumber<uint64_t>(Trim(line->substr(0, line->find(';'))), 16);
      if (!bytes) return Malformed("a chunk without a length");
      if (*bytes == 0) return {};  // trailers are nobody's business
      KVS_RETURN_IF_ERROR(ReadBytes(*bytes));
      if (done_) return {};
      const auto end = ReadUntil("\r\n", kChunkLineBytesMax);
      if (!end) return tl::unexpected(end.error());
      if (!end->empty()) return Malformed("a chunk longer than it says");
    }
  }

  // UINT64_MAX: until the connection is closed.
  Result<void> ReadBytes(uint64_t bytes) {
    while (bytes > 0 && !done_) {
      if (unread_.empty()) {
        const auto more = More();
        if (!more) return tl::unexpected(more.error());
        if (!*more && bytes == UINT64_MAX) return {};
        if (!*more) {
          return Error(Code::kUnavailable,
                       "the connection was closed before the response was complete");
        }
      }
      const size_t size = static_cast<size_t>(std::min<uint64_t>(unread_.size(), bytes));
      Deliver({unread_.data(), size});
      unread_.erase(0, size);
      if (bytes != UINT64_MAX) bytes -= size;
    }
    return {};
  }

  void Deliver(std::string_view piece) {
    if (streamed_) {
      done_ = !request_.on_data(piece);
      return;
    }
    const size_t room = request_.body_bytes_max - response_.body.size();
    response_.body.append(piece.substr(0, room));
    done_ = piece.size() >= room;
  }

  TcpStream& stream_;
  const FetchRequest& request_;
  FetchResponse response_;
  std::string unread_;
  bool streamed_ = false;
  bool done_ = false;  // nobody wants the rest
};

Result<FetchResponse> Exchange(const Url& server, const std::string& bearer,
                               const FetchRequest& request, const ProxyOptions& proxies,
                               const StreamTimeouts& timeouts) {
  const auto chosen = ProxyFor(server, proxies);
  if (!chosen) return tl::unexpected(chosen.error());
  const Proxy* proxy = *chosen ? &**chosen : nullptr;
  auto stream = TcpStream::Connect(server, proxy, timeouts);
  if (!stream) return tl::unexpected(std::move(stream).error());
  KVS_RETURN_IF_ERROR(stream->Write(HeadOf(server, bearer, request, proxy)));
  return Reader(*stream, request).Run();
}

}  // namespace

std::string_view FetchResponse::Header(std::string_view name) const {
  for (const auto& [found, value] : headers) {
    if (EqualsIgnoringCase(found, name)) return value;
  }
  return {};
}

Result<FetchResponse> Fetch(const Url& server, const std::string& bearer,
                            const FetchRequest& request, const ProxyOptions& proxies,
                            const StreamTimeouts& timeouts) {
  auto response = Exchange(server, bearer, request, proxies, timeouts);
  if (response) return response;
  return tl::unexpected(response.error().WithContext(
      fmt::format("{} {}{}", request.method, server.ToString(),
                  request.target.substr(0, request.target.find('?')))));
}

}  // namespace kvs
