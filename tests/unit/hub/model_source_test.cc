#include "hub/model_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <thread>

#include "stub_hub.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

constexpr RetryPolicy kFewRetries = {.attempts = 3,
                                     .first_delay = std::chrono::milliseconds(1),
                                     .delay_max = std::chrono::milliseconds(10)};

class ModelSourceTest : public testing::Test {
 protected:
  Result<ModelSource> Open(const std::string& revision = "", const std::string& model = kModel) {
    return Open(revision, model, ModelFiles::kDescription);
  }
  Result<ModelSource> Open(const std::string& revision, const std::string& model,
                           ModelFiles needed) {
    std::vector<std::string> entries = {"HF_HUB_CACHE=" + cache_.path().string(),
                                        "HF_HOME=" + cache_.path().string(),
                                        "HF_ENDPOINT=" + hub_.url()};
    entries.insert(entries.end(), variables_.begin(), variables_.end());
    std::vector<const char*> environment;
    for (const std::string& entry : entries) environment.push_back(entry.c_str());
    environment.push_back(nullptr);
    return ModelSource::Open(model, revision, needed, environment.data(), kFewRetries);
  }
  // Opens and fetches everything; the first failure, or nothing.
  Result<void> FetchAll(const std::string& revision = "") {
    auto source = Open(revision);
    if (!source) return tl::unexpected(source.error());
    return source->FetchWeights();
  }
  void ExpectRefusal(const Result<void>& result, Code code,
                     const std::vector<std::string>& fragments) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    for (const std::string& fragment : fragments) {
      EXPECT_THAT(result.error().message(), HasSubstr(fragment));
    }
  }

  fs::path Folder() const { return cache_.path() / "models--org--tiny"; }
  fs::path Snapshot() const { return Folder() / "snapshots" / kCommit; }

  TempDir cache_;
  StubHub hub_;
  std::vector<std::string> variables_;
};

TEST_F(ModelSourceTest, FetchesWhatIsNeededIntoTheSharedLayout) {
  auto source = Open();
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_EQ(source->dir(), Snapshot());
  EXPECT_THAT(source->Describe(), HasSubstr(kCommit));
  EXPECT_EQ(ReadText(Snapshot() / "tokenizer.json"), hub_.Content("tokenizer.json"));
  EXPECT_FALSE(fs::exists(Snapshot() / "model.safetensors"));

  const auto fetched = source->FetchWeights();
  ASSERT_TRUE(fetched) << fetched.error().message();
  EXPECT_EQ(ReadText(Snapshot() / "model.safetensors"), hub_.Content("model.safetensors"));
  EXPECT_EQ(ReadText(Folder() / "refs/main"), kCommit);
  const std::string hash = HashOf(hub_.Content("model.safetensors"), true);
  EXPECT_EQ(fs::read_symlink(Snapshot() / "model.safetensors"), "../../blobs/" + hash);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(Snapshot()))
    names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"chat_template.jinja", "config.json", "model.safetensors",
                                          "tokenizer.json"}));
  for (const auto& entry : fs::directory_iterator(Folder() / "blobs")) {
    EXPECT_TRUE(IsContentHash(entry.path().filename())) << entry.path();
  }
  EXPECT_FALSE(fs::exists(cache_.path() / "evil.json"));
  EXPECT_TRUE(hub_.Seen("pytorch_model.bin").empty());
}

TEST_F(ModelSourceTest, WhatIsInTheCacheNeedsNoNetwork) {
  ASSERT_TRUE(FetchAll());
  const size_t before = hub_.Seen("").size();
  ASSERT_TRUE(FetchAll());
  ASSERT_TRUE(FetchAll(kCommit));
  variables_ = {"HF_HUB_OFFLINE=1"};
  ASSERT_TRUE(FetchAll());
  EXPECT_EQ(hub_.Seen("").size(), before);
}

TEST_F(ModelSourceTest, OfflineSaysWhatIsMissing) {
  variables_ = {"HF_HUB_OFFLINE=yes"};
  ExpectRefusal(FetchAll(), Code::kNotFound,
                {"HF_HUB_OFFLINE", cache_.path(), "no snapshot of model 'org/tiny' at 'main'"});
  variables_ = {};
  ASSERT_TRUE(Open());
  variables_ = {"HF_HUB_OFFLINE=1"};
  ExpectRefusal(FetchAll(), Code::kNotFound, {"no model.safetensors of model 'org/tiny'"});
  fs::remove(fs::canonical(Snapshot() / "tokenizer.json"));
  ExpectRefusal(FetchAll(), Code::kNotFound, {"no tokenizer.json of model 'org/tiny'"});
  EXPECT_TRUE(Open("", kModel, ModelFiles::kConfig));
  EXPECT_TRUE(hub_.Seen("model.safetensors").empty());
}

TEST_F(ModelSourceTest, ABrokenLinkIsFetchedAgain) {
  ASSERT_TRUE(FetchAll());
  fs::remove(fs::canonical(Snapshot() / "model.safetensors"));
  ASSERT_TRUE(FetchAll());
  EXPECT_EQ(ReadText(Snapshot() / "model.safetensors"), hub_.Content("model.safetensors"));
}

TEST_F(ModelSourceTest, TakesTheShardsThatTheIndexNames) {
  hub_.RemoveFile("model.safetensors");
  hub_.SetFile("a-1.safetensors", "one");
  hub_.SetFile("a-2.safetensors", "two");
  hub_.SetFile("consolidated.safetensors", "the same again");
  hub_.SetFile("model.safetensors.index.json",
               R"({"weight_map":{"x":"a-1.safetensors","y":"a-2.safetensors"}})");
  const auto fetched = FetchAll();
  ASSERT_TRUE(fetched) << fetched.error().message();
  EXPECT_EQ(ReadText(Snapshot() / "a-2.safetensors"), "two");
  EXPECT_TRUE(hub_.Seen("consolidated").empty());
}

TEST_F(ModelSourceTest, AnIndexThatLeadsOutOfTheFolderIsRefused) {
  hub_.RemoveFile("model.safetensors");
  hub_.SetFile("model.safetensors.index.json",
               R"({"weight_map":{"x":"../../../evil.safetensors"}})");
  ExpectRefusal(FetchAll(), Code::kDataError, {"no safetensors file beside it"});
  EXPECT_TRUE(hub_.Seen("evil.safetensors").empty());
}

TEST_F(ModelSourceTest, PickledWeightsAreRefused) {
  hub_.RemoveFile("model.safetensors");
  ExpectRefusal(FetchAll(), Code::kNotFound, {"org/tiny", "safetensors", "never loaded"});
}

TEST_F(ModelSourceTest, ARevisionGetsARefOfItsOwn) {
  ASSERT_TRUE(FetchAll("refs/pr/7"));
  EXPECT_EQ(ReadText(Folder() / "refs/refs/pr/7"), kCommit);
  EXPECT_FALSE(fs::exists(Folder() / "refs/main"));
  EXPECT_FALSE(hub_.Seen("/revision/refs%2Fpr%2F7?").empty());
}

TEST_F(ModelSourceTest, ARevisionOfADirectoryIsRefused) {
  WriteText(cache_.path() / "mine/config.json", "{}");
  const auto source = Open("main", (cache_.path() / "mine").string());
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(source.error().message(), HasSubstr("--revision: got 'main'"));
}

TEST_F(ModelSourceTest, TheTokenGoesToTheEndpointAlone) {
  variables_ = {"HF_TOKEN=hf_secret"};
  ASSERT_TRUE(FetchAll());
  ASSERT_EQ(hub_.Seen("GET /blob/").size(), 1u);
  EXPECT_THAT(hub_.Seen("GET /blob/")[0], Not(HasSubstr("hf_secret")));
  // A signature stays as it is.
  EXPECT_THAT(hub_.Seen("GET /blob/")[0], HasSubstr("?signature=a+b%2F HTTP"));
  for (const std::string& head : hub_.Seen("/org/tiny")) {
    EXPECT_THAT(head, HasSubstr("Authorization: Bearer hf_secret"));
  }
}

TEST_F(ModelSourceTest, TheTokenMayBeInAFile) {
  WriteText(cache_.path() / "token", "hf_filed\n");
  ASSERT_TRUE(Open());
  EXPECT_THAT(hub_.Seen("/api/")[0], HasSubstr("Authorization: Bearer hf_filed"));
}

TEST_F(ModelSourceTest, RefusalsSayWhatToDo) {
  struct Case {
    int status;
    const char* code;
    const char* token;
    Code expected;
    std::vector<std::string> fragments;
  };
  const std::vector<Case> cases = {
      {401, "GatedRepo", "", Code::kUnauthenticated, {"is gated", "HF_TOKEN", "none is set"}},
      {403, "GatedRepo", "HF_TOKEN=t", Code::kUnauthenticated, {"is gated", "has no access"}},
      {401, "", "HF_TOKEN=t", Code::kUnauthenticated, {"refused the token"}},
      {401, "RepoNotFound", "", Code::kUnauthenticated, {"no model 'org/tiny'", "set HF_TOKEN"}},
      {404, "RepoNotFound", "", Code::kNotFound, {"no directory 'org/tiny'", "no model"}},
      {404, "RevisionNotFound", "", Code::kNotFound, {"--revision", "commit 'main'"}},
      {403, "", "HF_TOKEN=t", Code::kUnauthenticated, {"denies access"}},
      {503, "", "", Code::kUnavailable, {"answered 503", "HF_HUB_OFFLINE=1"}},
      {429, "", "", Code::kUnavailable, {"answered 429"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::to_string(c.status) + " " + c.code);
    variables_ = {c.token};
    hub_.SetTrouble([&](const CannedRequest&) { return StubHub::Refusal(c.status, c.code); });
    ExpectRefusal(FetchAll(), c.expected, c.fragments);
    EXPECT_FALSE(fs::exists(Folder())) << "nothing is left behind";
  }
}

TEST_F(ModelSourceTest, ARefusalOfAFileIsTheSame) {
  hub_.SetTrouble([](const CannedRequest& request) -> std::optional<StubHub::Pieces> {
    if (request.head.compare(0, 4, "HEAD") != 0) return std::nullopt;
    return StubHub::Refusal(403, "GatedRepo");
  });
  ExpectRefusal(FetchAll(), Code::kUnauthenticated, {"is gated"});
  EXPECT_FALSE(fs::exists(Folder() / "refs/main"));
}

TEST_F(ModelSourceTest, NoNetworkIsSaid) {
  std::string gone;
  { gone = StubHub().url(); }
  variables_ = {};
  std::vector<std::string> entries = {"HF_HOME=" + cache_.path().string(), "HF_ENDPOINT=" + gone};
  const char* environment[] = {entries[0].c_str(), entries[1].c_str(), nullptr};
  const auto source =
      ModelSource::Open(kModel, "", ModelFiles::kDescription, environment, kFewRetries);
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code(), Code::kUnavailable);
  EXPECT_THAT(source.error().message(), HasSubstr("the Hub cannot be reached"));
  EXPECT_THAT(source.error().message(), HasSubstr("HF_HUB_OFFLINE=1"));
}

TEST_F(ModelSourceTest, PassingTroubleIsWaitedOut) {
  std::map<std::string, int> seen;
  hub_.SetTrouble([&](const CannedRequest& request) -> std::optional<StubHub::Pieces> {
    const std::string line = request.head.substr(0, request.head.find(" HTTP"));
    if (++seen[line] > 1) return std::nullopt;
    if (line.find("/blob/") != std::string::npos) return StubHub::Pieces{};  // it just closes
    return StubHub::Refusal(503, "", "Retry-After: 0\r\n");
  });
  const auto fetched = FetchAll();
  ASSERT_TRUE(fetched) << fetched.error().message();
  EXPECT_EQ(ReadText(Snapshot() / "model.safetensors"), hub_.Content("model.safetensors"));
}

TEST_F(ModelSourceTest, AnswersThatAreNotTheProtocolAreRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[]", "no JSON object"},
      {"{\"sha\":\"main\",\"siblings\":[]}", "'sha' is no commit"},
      {"{\"sha\":\"" + std::string(kCommit) + "\"}", "'siblings'"},
      {"{\"sha\":\"" + std::string(kCommit) + "\",\"siblings\":[7]}", "'rfilename'"}};
  for (const auto& [body, fragment] : cases) {
    const std::string answer = body;
    hub_.SetTrouble([&](const CannedRequest&) {
      return std::optional<StubHub::Pieces>({CannedResponse(200, answer)});
    });
    ExpectRefusal(FetchAll(), Code::kDataError, {fragment});
  }
  hub_.SetTrouble([](const CannedRequest& request) -> std::optional<StubHub::Pieces> {
    if (request.head.compare(0, 4, "HEAD") != 0) return std::nullopt;
    return StubHub::Pieces{
        "HTTP/1.1 200 OK\r\nETag: \"../../../evil\"\r\nConnection: close\r\n"
        "Content-Length: 2\r\n\r\n"};
  });
  ExpectRefusal(FetchAll(), Code::kDataError, {"ETag", "no content hash"});
}

TEST_F(ModelSourceTest, SeveralAtOnceAgree) {
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { good += FetchAll() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
  EXPECT_EQ(ReadText(Snapshot() / "model.safetensors"), hub_.Content("model.safetensors"));
  EXPECT_EQ(hub_.Seen("GET /blob/").size(), 1u) << "one fetched it, the others waited";
}

}  // namespace
}  // namespace kvs
