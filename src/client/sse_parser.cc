#include "client/sse_parser.h"

namespace kvs {

bool SseParser::Feed(std::string_view bytes) {
  size_t begin = 0;
  while (!stopped_ && begin < bytes.size()) {
    if (after_cr_ && bytes[begin] == '\n') ++begin;
    after_cr_ = false;
    const size_t end = bytes.find_first_of("\r\n", begin);
    line_.append(bytes.substr(begin, end - begin));
    if (line_.size() + data_.size() > kMaxEventBytes) stopped_ = true;
    if (end == std::string_view::npos) break;
    after_cr_ = bytes[end] == '\r';
    begin = end + 1;
    if (!stopped_ && !EndLine()) stopped_ = true;
  }
  return !stopped_;
}

bool SseParser::EndLine() {
  const std::string line = std::move(line_);
  line_.clear();
  if (line.empty()) {
    if (!has_data_) return true;
    has_data_ = false;
    const std::string data = std::move(data_);
    data_.clear();
    return on_data_(data);
  }
  // Other fields (event, id, retry) and comments, which begin with a colon, say nothing to us.
  const std::string_view view = line;
  if (view != "data" && view.substr(0, 5) != "data:") return true;
  std::string_view value = view.size() > 5 ? view.substr(5) : std::string_view();
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
  return true;
}

}  // namespace kvs
