#include "http/head_reader.h"

#include <array>
#include <string_view>

namespace kvs {

tl::expected<RequestHead, HeadError> ReadHead(Connection& connection, std::string& received,
                                              SteadyTime deadline) {
  size_t searched = 0;
  while (true) {
    const auto end = FindHeadEnd(received, searched);
    if (!end) return tl::unexpected(end.error());
    if (end->has_value()) {
      const std::string_view text = received;
      auto head = ParseRequestHead(text.substr(0, **end));
      received.erase(0, **end);
      return head;
    }
    searched = received.size();
    std::array<char, 4096> buffer;
    const size_t num_read = connection.Read(buffer.data(), buffer.size(), deadline);
    if (num_read == 0) {
      const bool late = connection.read_end() == Connection::ReadEnd::kTimeout;
      if (!late || received.empty()) return tl::unexpected(HeadError{0, {}});
      return tl::unexpected(HeadError{408, "the request head did not arrive in time"});
    }
    received.append(buffer.data(), num_read);
  }
}

}  // namespace kvs
