#include "quality/dataset.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace kvs {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr uint64_t kBytesMax = uint64_t{4} << 30;

const OrderedJson* Find(const OrderedJson& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const std::string* FindString(const OrderedJson& object, const char* key) {
  const OrderedJson* value = Find(object, key);
  return value != nullptr && value->is_string() ? &value->get_ref<const std::string&>() : nullptr;
}

// ShareGPT's names of roles.
std::string RoleOf(const std::string& from) {
  if (from == "human") return "user";
  if (from == "gpt" || from == "chatgpt" || from == "bing" || from == "bard") return "assistant";
  return from;
}

std::optional<std::string> MessagesOf(const OrderedJson& turns, const char* role_key,
                                      const char* text_key) {
  OrderedJson messages = OrderedJson::array();
  if (!turns.is_array() || turns.empty()) return std::nullopt;
  for (const OrderedJson& turn : turns) {
    const std::string* role = turn.is_object() ? FindString(turn, role_key) : nullptr;
    const std::string* text = turn.is_object() ? FindString(turn, text_key) : nullptr;
    if (role == nullptr || text == nullptr) return std::nullopt;
    messages.push_back({{"role", RoleOf(*role)}, {"content", *text}});
  }
  return messages.dump();
}

Result<DatasetRow> RowOf(const OrderedJson& object, const std::string& where) {
  const auto refuse = [&](const char* what) {
    return Error(Code::kDataError, fmt::format("{}: {}", where, what));
  };
  if (!object.is_object()) return refuse("expected a JSON object");
  DatasetRow row;
  if (const std::string* answer = FindString(object, "answer")) row.answer = *answer;
  const OrderedJson* length = Find(object, "length");
  if (length != nullptr && length->is_number_unsigned()) row.length = length->get<uint32_t>();
  const OrderedJson* turns = Find(object, "messages");
  const OrderedJson* conversation = Find(object, "conversations");
  if (turns != nullptr || conversation != nullptr) {
    auto messages = turns != nullptr ? MessagesOf(*turns, "role", "content")
                                     : MessagesOf(*conversation, "from", "value");
    if (!messages) {
      return refuse(
          "expected a list of turns, each with a role (\"role\" or \"from\") and a text "
          "(\"content\" or \"value\")");
    }
    row.messages = *std::move(messages);
    return row;
  }
  const std::string* text = FindString(object, "text");
  if (text == nullptr) text = FindString(object, "prompt");
  if (text == nullptr) {
    return refuse("expected \"text\", \"messages\", \"conversations\" or \"prompt\"");
  }
  row.text = *text;
  return row;
}

Result<std::vector<DatasetRow>> ReadLines(std::string_view content, const std::string& path,
                                          uint64_t max_rows) {
  std::vector<DatasetRow> rows;
  for (size_t line = 1; !content.empty() && (max_rows == 0 || rows.size() < max_rows); ++line) {
    const size_t end = std::min(content.find('\n'), content.size());
    const std::string_view text = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, line);
    const OrderedJson object = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded()) return Error(Code::kDataError, where + ": the line is not JSON");
    auto row = RowOf(object, where);
    if (!row) return tl::unexpected(row.error());
    rows.push_back(*std::move(row));
  }
  return rows;
}

Result<std::vector<DatasetRow>> ReadList(const std::string& content, const std::string& path,
                                         uint64_t max_rows) {
  const OrderedJson list = OrderedJson::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return Error(Code::kDataError, path + ": the file is not a JSON list");
  std::vector<DatasetRow> rows;
  for (size_t i = 0; i < list.size() && (max_rows == 0 || i < max_rows); ++i) {
    auto row = RowOf(list[i], fmt::format("{}: element {}", path, i));
    if (!row) return tl::unexpected(row.error());
    rows.push_back(*std::move(row));
  }
  return rows;
}

}  // namespace

Result<std::vector<DatasetRow>> ReadDataset(const std::filesystem::path& file_path,
                                            uint64_t max_rows) {
  const std::string path = file_path.string();
  std::ifstream file(file_path, std::ios::binary);
  std::error_code error;
  const uint64_t size = file ? std::filesystem::file_size(file_path, error) : 0;
  if (!file || error) {
    return Error(Code::kNotFound,
                 fmt::format("cannot read '{}': {}", path,
                             error ? error.message() : std::generic_category().message(errno)));
  }
  if (size > kBytesMax) {
    return Error(Code::kDataError,
                 fmt::format("{}: {} bytes; at most {} are supported", path, size, kBytesMax));
  }
  std::string content(size, '\0');
  file.read(content.data(), static_cast<std::streamsize>(size));
  const size_t first = content.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return Error(Code::kDataError, path + ": the file is empty");
  Result<std::vector<DatasetRow>> rows;
  if (content[first] == '{') {
    rows = ReadLines(content, path, max_rows);
  } else if (content[first] == '[') {
    rows = ReadList(content, path, max_rows);
  } else {
    rows->push_back({.text = std::move(content), .is_plain_text = true});
  }
  if (rows && rows->empty()) return Error(Code::kDataError, path + ": there is no row");
  return rows;
}

}  // namespace kvs
