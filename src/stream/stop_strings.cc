#include "stream/stop_strings.h"

#include "kvserve/check.h"

namespace kvs {

StopStrings::StopStrings(std::span<const std::string> strings) {
  for (const std::string& string : strings) {
    KVS_CHECK(!string.empty());
    lengths_.push_back(string.size());
    for (const char c : string) {
      uint16_t& byte_class = class_of_[static_cast<unsigned char>(c)];
      if (byte_class == 0) byte_class = static_cast<uint16_t>(num_classes_++);
    }
  }
  AddNode(0);
  for (uint32_t i = 0; i < strings.size(); ++i) Insert(strings[i], i);
  LinkFailures();
}

uint32_t StopStrings::AddNode(uint32_t depth) {
  nodes_.push_back({depth, 0, 0});
  next_.resize(next_.size() + num_classes_, 0);
  return static_cast<uint32_t>(nodes_.size() - 1);
}

void StopStrings::Insert(const std::string& string, uint32_t index) {
  uint32_t node = 0;
  for (const char c : string) {
    const uint32_t byte_class = class_of_[static_cast<unsigned char>(c)];
    if (Next(node, byte_class) == 0) {
      const uint32_t child = AddNode(nodes_[node].depth + 1);
      Next(node, byte_class) = child;
    }
    node = Next(node, byte_class);
  }
  if (nodes_[node].string == 0) nodes_[node].string = index + 1;
}

// Breadth first: a node's failure node is shallower, so it is finished before the node is met.
void StopStrings::LinkFailures() {
  std::vector<uint32_t> failure(nodes_.size(), 0);
  std::vector<uint32_t> queue{0};
  for (size_t head = 0; head < queue.size(); ++head) {
    const uint32_t node = queue[head];
    const Node& fallback = nodes_[failure[node]];
    if (nodes_[node].string == 0) nodes_[node].string = fallback.string;
    bool has_children = false;
    for (uint32_t byte_class = 1; byte_class < num_classes_; ++byte_class) {
      uint32_t& next = Next(node, byte_class);
      const uint32_t via_failure = node == 0 ? 0 : Next(failure[node], byte_class);
      if (next == 0) {
        next = via_failure;
        continue;
      }
      has_children = true;
      failure[next] = via_failure;
      queue.push_back(next);
    }
    nodes_[node].held = has_children ? nodes_[node].depth : fallback.held;
  }
}

std::optional<StopStrings::Match> StopStrings::Append(std::string_view text, bool may_match,
                                                      std::string& out) {
  held_ += text;
  for (size_t i = 0; i < text.size(); ++i) {
    state_ = Next(state_, class_of_[static_cast<unsigned char>(text[i])]);
    if (nodes_[state_].string == 0 || !may_match) continue;
    const size_t index = nodes_[state_].string - 1;
    const uint64_t end = num_bytes_ + i + 1;
    const uint64_t begin = end - lengths_[index];
    const size_t held_begin = held_.size() - text.size() + i + 1 - lengths_[index];
    out.append(held_, 0, held_begin);
    held_.clear();
    num_bytes_ = end;
    return Match{index, begin, end};
  }
  num_bytes_ += text.size();
  const size_t num_certain = held_.size() - nodes_[state_].held;
  out.append(held_, 0, num_certain);
  held_.erase(0, num_certain);
  return std::nullopt;
}

void StopStrings::Flush(std::string& out) {
  out += held_;
  held_.clear();
  state_ = 0;
}

}  // namespace kvs
