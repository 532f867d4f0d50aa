#include "config/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace kvs {
namespace {

constexpr size_t kIndent = 34;  // where the sentences stand
constexpr size_t kColumns = 100;

constexpr std::array<std::string_view, 9> kHeadings = {"Model",  "KV cache", "Scheduler",
                                                       "HTTP",   "Security", "Logging",
                                                       "Device", "Workload", "General"};

std::string LeftColumn(const FlagSpec& spec) {
  if (spec.kind == FlagKind::kSwitch) return fmt::format("  --[no-]{}", spec.name);
  const char* more = spec.kind == FlagKind::kSeveral ? "..." : "";
  return fmt::format("  --{} {}{}", spec.name, spec.value_name, more);
}

std::string RightColumn(const FlagSpec& spec) {
  if (spec.default_text.empty()) return spec.help;
  return fmt::format("{} [{}]", spec.help, spec.default_text);
}

// `right` beside `left`, broken between words.
void AppendRow(std::string& out, const std::string& left, std::string_view right) {
  out += left;
  size_t column = left.size();
  if (column + 2 > kIndent) {
    out += '\n';
    column = 0;
  }
  out.append(kIndent - column, ' ');
  column = kIndent;
  while (!right.empty()) {
    const size_t end = std::min(right.find(' '), right.size());
    if (column > kIndent && column + 1 + end > kColumns) {
      out += '\n';
      out.append(kIndent, ' ');
      column = kIndent;
    } else if (column > kIndent) {
      out += ' ';
      ++column;
    }
    out += right.substr(0, end);
    column += end;
    right.remove_prefix(std::min(end + 1, right.size()));
  }
  out += '\n';
}

}  // namespace

std::string FlagHelp(const std::vector<FlagSpec>& table, bool all) {
  std::string out;
  for (size_t group = 0; group < kHeadings.size(); ++group) {
    bool has_heading = false;
    for (const FlagSpec& spec : table) {
      if (static_cast<size_t>(spec.group) != group || (!all && !spec.common)) continue;
      if (!has_heading) out += fmt::format("{}:\n", kHeadings[group]);
      has_heading = true;
      AppendRow(out, LeftColumn(spec), RightColumn(spec));
    }
  }
  return out;
}

}  // namespace kvs
