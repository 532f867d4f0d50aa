#include "template/json_value.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "template/error.h"

namespace kvs::jinja {
namespace {

class ValueBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(Origin origin) : origin_(origin) {}

  bool null() override { return Add(Value()); }
  bool boolean(bool value) override { return Add(Value(value)); }
  bool number_integer(int64_t value) override { return Add(Value(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > INT64_MAX) return Add(Value(static_cast<double>(value)));
    return Add(Value(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string&) override { return Add(Value(value)); }
  bool string(std::string& value) override { return Add(Value::String(std::move(value), origin_)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(false); }
  bool start_array(size_t) override { return Open(true); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    Level& level = open_.back();
    level.key = Value::String(std::move(name), origin_);
    if (level.dict.Find(level.key) == nullptr) return true;
    return Refuse("a key stands twice in one object");
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Refuse(fmt::format("not valid JSON (RFC 8259, UTF-8) at byte {}", position));
  }

  Value root;
  std::string error;

 private:
  struct Level {
    bool is_list;
    std::vector<Value> items;
    Dict dict;
    Value key;
  };

  bool Refuse(std::string message) {
    if (error.empty()) error = std::move(message);
    return false;
  }

  bool Add(Value value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (open_.back().is_list) {
      open_.back().items.push_back(std::move(value));
    } else {
      open_.back().dict.Set(std::move(open_.back().key), std::move(value));
    }
    return true;
  }

  bool Open(bool is_list) {
    static_assert(2 * kMaxJsonNesting <= kMaxNesting, "then Close never throws");
    if (open_.size() == kMaxJsonNesting) {
      return Refuse(fmt::format("nested deeper than {} levels", kMaxJsonNesting));
    }
    open_.push_back({is_list, {}, {}, {}});
    return true;
  }

  bool Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    return Add(level.is_list ? Value::OfList(std::move(level.items))
                             : Value::OfDict(std::move(level.dict)));
  }

  const Origin origin_;
  std::vector<Level> open_;
};

}  // namespace

Result<Value> ParseJsonValue(std::string_view json, Origin origin) {
  ValueBuilder builder(origin);
  const bool done = nlohmann::json::sax_parse(json.begin(), json.end(), &builder);
  if (!done || !builder.error.empty()) return Error(Code::kInvalidArgument, builder.error);
  return std::move(builder.root);
}

}  // namespace kvs::jinja
