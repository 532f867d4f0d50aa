#include "http/request_head.h"

#include <gtest/gtest.h>

#include <string>

namespace kvs {
namespace {

using ::testing::TestWithParam;

RequestHead Parse(const std::string& text) {
  auto head = ParseRequestHead(text);
  EXPECT_TRUE(head) << head.error().message;
  return head ? *head : RequestHead();
}

TEST(RequestHead, ReadsLineAndFields) {
  const RequestHead head = Parse(
      "POST /v1/models/a%2Fb?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nX-Request-Id:\t a b "
      "\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/v1/models/a/b");
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_TRUE(head.expects_continue);
  EXPECT_TRUE(head.keep_alive);
  ASSERT_EQ(head.headers.size(), 4u);
  EXPECT_EQ(head.headers[2], (std::pair<std::string, std::string>("x-request-id", "a b")));
}

TEST(RequestHead, KeepsConnectionAsTheVersionSays) {
  EXPECT_FALSE(Parse("GET / HTTP/1.0\r\n\r\n").keep_alive);
  EXPECT_TRUE(Parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
  EXPECT_FALSE(Parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n").keep_alive);
}

TEST(RequestHead, LeavesHeaderValuesAsTheyAre) {
  const RequestHead head =
      Parse("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a%41%0d\r\n\r\n");
  EXPECT_EQ(head.headers[1].second, "Bearer a%41%0d");
}

struct BadHead {
  std::string text;
  int status;
  std::string says;
};

class RefusedHead : public TestWithParam<BadHead> {};

TEST_P(RefusedHead, IsRefusedWithStatusAndReason) {
  const auto head = ParseRequestHead(GetParam().text);
  ASSERT_FALSE(head);
  EXPECT_EQ(head.error().status, GetParam().status);
  EXPECT_NE(head.error().message.find(GetParam().says), std::string::npos) << head.error().message;
}

std::string With(const std::string& fields) {
  return "POST / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n\r\n";
}

std::string ManyFields(int count) {
  std::string fields = "A: 1";
  for (int i = 1; i < count; ++i) fields += "\r\nA: 1";
  return fields;
}

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedHead,
    ::testing::Values(
        BadHead{"GET /\r\n\r\n", 400, "METHOD TARGET VERSION"},
        BadHead{"GET / HTTP/1.1 x\r\nHost: h\r\n\r\n", 400, "METHOD TARGET VERSION"},
        BadHead{"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "method"},
        BadHead{"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "begin with '/'"},
        BadHead{"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "valid URL"},
        BadHead{"GET /%0a HTTP/1.1\r\nHost: h\r\n\r\n", 400, "valid URL"},
        BadHead{"GET /%4 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "valid URL"},
        BadHead{"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "valid URL"},
        BadHead{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "HTTP/1.1"},
        BadHead{"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "9001"},
        BadHead{"GET / HTTP/1.1\r\n\r\n", 400, "'Host' is missing"},
        BadHead{With("Host: again"), 400, "'host' is given twice"},
        BadHead{With("Content-Length: 1\r\nContent-Length: 1"), 400, "given twice"},
        BadHead{With("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400, "both"},
        BadHead{With("Content-Length: -1"), 400, "decimal"},
        BadHead{With("Content-Length: 1,1"), 400, "decimal"},
        BadHead{With("Content-Length: 0x10"), 400, "decimal"},
        BadHead{With("Content-Length: 18446744073709551617"), 400, "decimal"},
        BadHead{With("Transfer-Encoding: gzip, chunked"), 501, "chunked"},
        BadHead{With("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, "twice"},
        BadHead{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0"},
        BadHead{With("Content-Encoding: gzip"), 415, "Content-Encoding"},
        BadHead{With("Expect: a-miracle"), 417, "100-continue"},
        BadHead{With("Content-Length : 1"), 400, "Name: value"},
        BadHead{With(" folded: 1"), 400, "Name: value"},
        BadHead{With("no colon"), 400, "Name: value"},
        BadHead{With(std::string("A: \x01")), 400, "control character"},
        BadHead{With("A: b\rc"), 400, "CR in it"},
        BadHead{With(ManyFields(100)), 431, "more than 100"}));

TEST(FindHeadEnd, FindsTheEndAcrossPieces) {
  const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n\r\nbody";
  for (size_t cut = 1; cut < text.size(); ++cut) {
    const auto first = FindHeadEnd(std::string_view(text).substr(0, cut), 0);
    ASSERT_TRUE(first);
    if (cut < text.size() - 4) {
      EXPECT_FALSE(*first) << cut;
      const auto second = FindHeadEnd(text, cut);
      ASSERT_TRUE(second && *second) << cut;
      EXPECT_EQ(**second, text.size() - 4);
    } else {
      EXPECT_EQ(**first, text.size() - 4);
    }
  }
}

TEST(FindHeadEnd, RefusesAtOnce) {
  EXPECT_EQ(FindHeadEnd("GET / HTTP/1.1\nHost: h\n\n", 0).error().status, 400);
  EXPECT_EQ(FindHeadEnd("\x16\x03\x01", 0).error().status, 400);  // TLS on the plain port
  EXPECT_EQ(FindHeadEnd("G" + std::string(kMaxHeadBytes, 'x'), 0).error().status, 414);
  const std::string fields = "GET / HTTP/1.1\r\nA: " + std::string(kMaxHeadBytes, 'x') + "\r\n\r\n";
  EXPECT_EQ(FindHeadEnd(fields, 0).error().status, 431);
}

}  // namespace
}  // namespace kvs
