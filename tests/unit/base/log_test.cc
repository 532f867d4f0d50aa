#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::internal::CaptureStderr;
using testing::internal::GetCapturedStderr;

// What `action` writes to standard error with the log set up so.
template <class Action>
std::string Logged(const std::string& level, LogFormat format, Action action) {
  InitLog({.level = level, .format = format});
  CaptureStderr();
  action();
  return GetCapturedStderr();
}

// Strict enough for one flat object of strings: the JSON grammar's strings (RFC 8259, section 7).
bool IsObjectOfStrings(const std::string& line) {
  size_t at = 0;
  const auto take = [&](char c) { return at < line.size() && line[at] == c && ++at > 0; };
  const auto take_string = [&] {
    if (!take('"')) return false;
    while (at < line.size() && line[at] != '"') {
      if (static_cast<unsigned char>(line[at]) < 0x20) return false;
      if (line[at] == '\\') {
        ++at;
        if (at >= line.size() || std::string("\"\\/bfnrt").find(line[at]) == std::string::npos) {
          return false;
        }
      }
      ++at;
    }
    return take('"');
  };
  if (!take('{')) return false;
  do {
    if (!take_string() || !take(':') || !take_string()) return false;
  } while (take(','));
  return take('}') && at == line.size();
}

TEST(EscapeControl, KeepsTextAndTab) {
  EXPECT_EQ(EscapeControl("plain\ttext \"quoted\" \\"), "plain\ttext \"quoted\" \\");
  const std::string valid = "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf";
  EXPECT_EQ(EscapeControl(valid), valid);
}

TEST(EscapeControl, EscapesEveryControlCharacter) {
  EXPECT_EQ(EscapeControl("a\nb\rc\x1b[31m\x7f"), "a\\x0ab\\x0dc\\x1b[31m\\x7f");
  EXPECT_EQ(EscapeControl(std::string_view("\0x", 2)), "\\x00x");
  EXPECT_EQ(EscapeControl("\xc2\x9b"), "\\xc2\\x9b");           // CSI, a C1 control
  EXPECT_EQ(EscapeControl("\xe2\x80\xa8"), "\\xe2\\x80\\xa8");  // U+2028
}

TEST(EscapeControl, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(EscapeControl("\xff"), "\\xff");
  EXPECT_EQ(EscapeControl("\x80z"), "\\x80z");                           // stray continuation
  EXPECT_EQ(EscapeControl("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(EscapeControl("\xe0\x9f\xbf"), "\\xe0\\x9f\\xbf");           // overlong
  EXPECT_EQ(EscapeControl("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(EscapeControl("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
  EXPECT_EQ(EscapeControl("\xe2\x82"), "\\xe2\\x82");                    // cut short
  EXPECT_EQ(EscapeControl("\xe2z"), "\\xe2z");
}

TEST(Log, LevelsFilter) {
  const auto all = [] {
    LOG_DEBUG("d{}", 1);
    LOG_INFO("i{}", 2);
    LOG_WARNING("w{}", 3);
    LOG_ERROR("e{}", 4);
  };
  const std::string debug = Logged("debug", LogFormat::kText, all);
  EXPECT_THAT(debug, HasSubstr("debug d1\n"));
  EXPECT_THAT(debug, HasSubstr("info i2\n"));
  EXPECT_THAT(debug, HasSubstr("warning w3\n"));
  EXPECT_THAT(debug, HasSubstr("error e4\n"));
  const std::string warning = Logged("warning", LogFormat::kText, all);
  EXPECT_THAT(warning, testing::Not(HasSubstr("i2")));
  EXPECT_THAT(warning, HasSubstr("w3\n"));
  EXPECT_THAT(Logged("error", LogFormat::kText, all), testing::Not(HasSubstr("w3")));
}

TEST(Log, ABracedMessageIsNotAFormat) {
  const std::string client_text = "{} {0} %v %n";
  EXPECT_THAT(Logged("info", LogFormat::kText, [&] { LOG_INFO("{}", client_text); }),
              HasSubstr("{} {0} %v %n\n"));
}

TEST(Log, JsonLinesAreValidWhateverTheMessage) {
  const std::vector<std::string> messages = {"plain",
                                             "a \"quoted\" word",
                                             "back\\slash\\",
                                             "tab\there",
                                             "line\nbreak\r",
                                             "\xff\xfe bytes",
                                             "\xe2\x82",
                                             std::string("nul\0byte", 8),
                                             "\",\"level\":\"forged",
                                             "{}",
                                             ""};
  for (const std::string& message : messages) {
    const std::string text = Logged("info", LogFormat::kJson, [&] { LOG_INFO("{}", message); });
    ASSERT_FALSE(text.empty());
    EXPECT_EQ(text.find('\n'), text.size() - 1) << text;  // one line
    EXPECT_TRUE(IsObjectOfStrings(text.substr(0, text.size() - 1))) << text;
    EXPECT_THAT(text, HasSubstr("\"level\":\"info\",\"message\":\""));
  }
}

TEST(Log, LongMessagesAreCutAndSaySo) {
  const std::string message(kMaxLogMessageBytes + 100, 'x');
  const std::string text = Logged("info", LogFormat::kText, [&] { LOG_INFO("{}", message); });
  EXPECT_LT(text.size(), kMaxLogMessageBytes + 80);
  EXPECT_THAT(text, HasSubstr("xxx ... (100 bytes more)\n"));
  // The cut may fall inside a character; the line stays valid UTF-8.
  std::string euros = "a";
  while (euros.size() <= kMaxLogMessageBytes) euros += "\xe2\x82\xac";
  const std::string json = Logged("info", LogFormat::kJson, [&] { LOG_INFO("{}", euros); });
  EXPECT_TRUE(IsObjectOfStrings(json.substr(0, json.size() - 1)));
  EXPECT_EQ(EscapeControl(json.substr(0, json.size() - 1)), json.substr(0, json.size() - 1));
}

TEST(Log, ThreadsDoNotMixLines) {
  const std::string text = Logged("info", LogFormat::kText, [] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 50; ++i) LOG_INFO("<{}>", std::string(40, static_cast<char>('a' + t)));
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  size_t num_lines = 0;
  for (size_t begin = 0; begin < text.size(); ++num_lines) {
    const size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    const size_t open = line.find('<');
    ASSERT_NE(open, std::string::npos);
    EXPECT_EQ(line.substr(open), "<" + std::string(40, line[open + 1]) + ">");
    begin = end + 1;
  }
  EXPECT_EQ(num_lines, 200u);
}

}  // namespace
}  // namespace kvs
