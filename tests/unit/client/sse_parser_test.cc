#include "client/sse_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvs {
namespace {

using testing::ElementsAre;

std::vector<std::string> ParsePieces(const std::vector<std::string_view>& pieces) {
  std::vector<std::string> events;
  SseParser parser([&](std::string_view data) {
    events.emplace_back(data);
    return true;
  });
  for (const std::string_view piece : pieces) EXPECT_TRUE(parser.Feed(piece));
  return events;
}

TEST(SseParser, SameEventsWhereverTheBytesAreCut) {
  const std::string text =
      ": a comment\n"
      "event: message\nid: 7\ndata: {\"text\":\"a\"}\n\n"
      "data:no blank\r\n\r\n"
      "data: two\rdata: lines\r\r"
      "\n\n"
      "data\n\n"
      "data: \xc3\xa9\n\n"
      "datax: no\n\n"
      "data: [DONE]\n\n"
      "data: dropped, for its blank line never came\n";
  const std::vector<std::string> want = {"{\"text\":\"a\"}", "no blank", "two\nlines", "",
                                         "\xc3\xa9",         "[DONE]"};
  EXPECT_EQ(ParsePieces({text}), want);
  const std::string_view view = text;
  for (size_t first = 0; first <= view.size(); ++first) {
    for (size_t second = first; second <= view.size(); ++second) {
      EXPECT_EQ(ParsePieces({view.substr(0, first), view.substr(first, second - first),
                             view.substr(second)}),
                want)
          << "cut at " << first << " and " << second;
    }
  }
}

TEST(SseParser, StopsWhenToldTo) {
  std::vector<std::string> events;
  SseParser parser([&](std::string_view data) {
    events.emplace_back(data);
    return data != "stop";
  });
  EXPECT_FALSE(parser.Feed("data: a\n\ndata: stop\n\ndata: b\n\n"));
  EXPECT_FALSE(parser.Feed("data: c\n\n"));
  EXPECT_THAT(events, ElementsAre("a", "stop"));
}

TEST(SseParser, RefusesAnEventWithoutEnd) {
  SseParser parser([](std::string_view) { return true; });
  const std::string piece(size_t{1} << 20, 'x');
  EXPECT_TRUE(parser.Feed("data: "));
  size_t accepted = 0;
  while (parser.Feed(piece)) ++accepted;
  EXPECT_EQ(accepted, SseParser::kMaxEventBytes / piece.size() - 1);
}

TEST(SseParser, RefusesAnEventOfEndlesslyManyLines) {
  SseParser parser([](std::string_view) { return true; });
  const std::string line = "data: " + std::string(1 << 20, 'x') + "\n";
  size_t accepted = 0;
  while (parser.Feed(line)) ++accepted;
  EXPECT_EQ(accepted, 15u);
}

}  // namespace
}  // namespace kvs
