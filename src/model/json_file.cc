#include "model/json_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#include "model/read_only_file.h"

namespace kvs {
namespace {

// Holds a text against the limits before any value of it is built. (The parser's own callback would
// do it in one pass, but takes quadratic time over the members of an object.)
class Guard : public nlohmann::json_sax<Json> {
 public:
  explicit Guard(const JsonLimits& limits) : limits_(limits) {}
  const std::string& error() const { return error_; }

  bool null() override { return CountValue(); }
  bool boolean(bool) override { return CountValue(); }
  bool number_integer(number_integer_t) override { return CountValue(); }
  bool number_unsigned(number_unsigned_t) override { return CountValue(); }
  bool number_float(number_float_t, const string_t&) override { return CountValue(); }
  bool string(string_t&) override { return CountValue(); }
  bool binary(binary_t&) override { return CountValue(); }
  bool start_object(size_t) override { return Enter(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    return Fail(fmt::format("'{}' occurs twice", key.substr(0, 200)));
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    const bool is_syntax = dynamic_cast<const Json::parse_error*>(&error) != nullptr;
    return Fail(is_syntax ? fmt::format("not valid JSON at byte {}", position)
                          : fmt::format("a number out of range at byte {}", position));
  }

 private:
  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  bool CountValue() {
    if (++num_values_ <= limits_.max_values) return true;
    return Fail(fmt::format("more than {} values", limits_.max_values));
  }

  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= limits_.max_depth) return CountValue();
    return Fail(fmt::format("nested deeper than {}", limits_.max_depth));
  }

  bool Leave() {
    keys_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  std::vector<std::unordered_set<std::string>> keys_;  // of what is open
  size_t num_values_ = 0;
  std::string error_;
};

}  // namespace

Result<Json> ParseJsonObject(std::string_view text, const JsonLimits& limits,
                             const std::string& name) {
  if (text.size() > limits.max_bytes) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes of JSON; at most {} are read", name,
                                               text.size(), limits.max_bytes));
  }
  // The parser takes a zero byte for the end of the text.
  const size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    return Error(Code::kDataError, fmt::format("{}: not valid JSON at byte {}", name, zero + 1));
  }
  try {
    Guard guard(limits);
    if (!Json::sax_parse(text, &guard)) {
      return Error(Code::kDataError, fmt::format("{}: {}", name, guard.error()));
    }
    Json json = Json::parse(text);
    if (json.is_object()) return json;
    return Error(Code::kDataError, fmt::format("{}: not a JSON object", name));
  } catch (const std::exception& error) {  // what the guard let through is only want of memory
    return Error(Code::kOsError, fmt::format("{}: {}", name, error.what()));
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

const Json* FindMember(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string Excerpt(const Json& value) { return value.dump(-1, ' ', true).substr(0, 80); }

}  // namespace kvs
