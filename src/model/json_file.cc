#include "model/json_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <set>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "model/read_only_file.h"

namespace kvs {
namespace {

// Sees every event of the parser, and throws where a limit is passed.
class Guard {
 public:
  explicit Guard(const JsonLimits& limits) : limits_(limits) {}

  void Check(Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        keys_.emplace_back();
        if (keys_.size() > limits_.max_depth) {
          throw std::length_error(fmt::format("nested deeper than {}", limits_.max_depth));
        }
        CountValue();
        break;
      case Event::object_end:
      case Event::array_end:
        keys_.pop_back();
        break;
      case Event::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second) {
          throw std::invalid_argument(fmt::format("'{}' occurs twice", key.substr(0, 200)));
        }
        break;
      }
      case Event::value:
        CountValue();
        break;
    }
  }

 private:
  void CountValue() {
    if (++num_values_ > limits_.max_values) {
      throw std::length_error(fmt::format("more than {} values", limits_.max_values));
    }
  }

  const JsonLimits& limits_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
  size_t num_values_ = 0;
};

}  // namespace

Result<Json> ParseJsonObject(std::string_view text, const JsonLimits& limits,
                             const std::string& name) {
  if (text.size() > limits.max_bytes) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes of JSON; at most {} are read", name,
                                               text.size(), limits.max_bytes));
  }
  try {
    Guard guard(limits);
    Json json = Json::parse(text, [&](int, Json::parse_event_t event, Json& parsed) {
      guard.Check(event, parsed);
      return true;
    });
    if (json.is_object()) return json;
    return Error(Code::kDataError, fmt::format("{}: not a JSON object", name));
  } catch (const Json::parse_error& error) {
    return Error(Code::kDataError, fmt::format("{}: not valid JSON at byte {}", name, error.byte));
  } catch (const Json::exception&) {
    return Error(Code::kDataError, fmt::format("{}: not valid JSON: a number out of range", name));
  } catch (const std::exception& error) {
    return Error(Code::kDataError, fmt::format("{}: {}", name, error.what()));
  }
}

Result<Json> ReadJsonObject(const std::filesystem::path& path, const JsonLimits& limits) {
  auto file = ReadOnlyFile::Open(path);
  if (!file) return tl::unexpected(file.error());
  if (file->size() > limits.max_bytes) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes; at most {} are read", file->path(),
                                               file->size(), limits.max_bytes));
  }
  std::string text(file->size(), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = read(file->fd(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const std::string reason =
          n < 0 ? std::generic_category().message(errno) : "ended while it was read";
      return Error(Code::kOsError, fmt::format("{}: {}", file->path(), reason));
    }
    done += static_cast<size_t>(n);
  }
  return ParseJsonObject(text, limits, file->path());
}

}  // namespace kvs
