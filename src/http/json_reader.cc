#include "http/json_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>

namespace kvs {
namespace {

// Builds the document while it refuses what a client must not send. The library's parser is
// iterative; this keeps the document shallow, so that its destructor may recurse.
class DocumentBuilder final : public nlohmann::json_sax<Json> {
 public:
  DocumentBuilder() {}  // may throw, as Json's constructor may

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  bool number_float(double value, const std::string&) override { return Add(value); }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    if (open_.back()->contains(name)) {
      error_ = fmt::format("the body gives the field {} twice", Shown(Json(name)));
      return false;
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& cause) override {
    const bool number = cause.id == 406;  // out_of_range: a number beyond a double
    error_ = number
                 ? fmt::format("the body has a number out of range before byte {}", position)
                 : fmt::format("the body is not valid JSON (RFC 8259, UTF-8): byte {}", position);
    return false;
  }

  Json& root() { return root_; }
  const std::string& error() const { return error_; }

 private:
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &(parent.get_ref<Json::object_t&>()[key_] = std::move(value));
  }

  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }

  bool Open(Json value) {
    if (open_.size() == kMaxJsonDepth) {
      error_ = fmt::format("the body is nested deeper than {} levels", kMaxJsonDepth);
      return false;
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  std::string error_;
};

}  // namespace

ApiResult<Json> ParseJson(std::string_view text) {
  DocumentBuilder builder;
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root());
  return tl::unexpected(InvalidRequest(builder.error()));
}

std::optional<int64_t> IntegerOf(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > uint64_t{INT64_MAX}) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  constexpr double kLimit = 9007199254740992.0;  // 2^53: every integer up to it is exact
  if (!(number >= -kLimit && number <= kLimit) || std::trunc(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::string Shown(const Json& value) {
  constexpr size_t kMaxShown = 64;
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "...";
  return text;
}

JsonReader::JsonReader(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const Json* JsonReader::Find(std::string_view name) {
  if (error_) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonReader::Bool(std::string_view name, bool& out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Refuse(name, "must be true or false");
  out = value->get<bool>();
}

void JsonReader::Integer(std::string_view name, int64_t low, int64_t high, int64_t& out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  const auto integer = IntegerOf(*value);
  if (!integer || !(*integer >= low && *integer <= high)) {
    return Refuse(name, fmt::format("must be an integer from {} to {}", low, high));
  }
  out = *integer;
}

void JsonReader::Number(std::string_view name, double low, double high, float& out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) {
    return Refuse(name, fmt::format("must be a number from {} to {}", low, high));
  }
  out = static_cast<float>(number);
}

void JsonReader::String(std::string_view name, size_t max_bytes, std::string& out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_string() || value->get_ref<const std::string&>().size() > max_bytes) {
    return Refuse(name, fmt::format("must be a string of at most {} bytes", max_bytes));
  }
  out = value->get<std::string>();
}

void JsonReader::TokenIds(std::string_view name, size_t max_count, uint32_t vocab_size,
                          std::vector<TokenId>& out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_array() || value->size() > max_count) {
    return Refuse(name, fmt::format("must be an array of at most {} token ids", max_count));
  }
  out.clear();
  out.reserve(value->size());
  for (const Json& item : *value) {
    const auto token = IntegerOf(item);
    if (!token || !(*token >= 0 && *token < int64_t{vocab_size})) {
      return Refuse(
          InvalidRequest(fmt::format("'{}{}' has {} where a token id from 0 to {} is expected",
                                     prefix_, name, Shown(item), vocab_size - 1),
                         prefix_ + std::string(name)));
    }
    out.push_back({static_cast<uint32_t>(*token)});
  }
}

void JsonReader::Refuse(std::string_view name, std::string_view what) {
  const auto found = object_.find(name);
  const std::string seen = found == object_.end() ? "nothing" : Shown(*found);
  const std::string param = prefix_ + std::string(name);
  Refuse(InvalidRequest(fmt::format("'{}' {}, got {}", param, what, seen), param));
}

void JsonReader::Refuse(ApiError error) {
  if (!error_) error_ = std::move(error);
}

}  // namespace kvs
