// A Hub on 127.0.0.1 that speaks the real one's protocol about one model, and misbehaves as a test
// asks. Also a cache in a directory of the test's own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hub/digest.h"
#include "kvserve/options.h"
#include "support/canned_server.h"
#include "support/temp_dir.h"

namespace kvs {

inline std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteText(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// The hash of `content` of the kind that large files (SHA-256) or others (Git's) have.
inline std::string HashOf(const std::string& content, bool large) {
  const TempDir dir;
  WriteText(dir.path() / "content", content);
  const auto hash = HashOfFile(dir.path() / "content", std::string(large ? 64 : 40, '0'),
                               [](uint64_t) { return true; });
  return *hash;
}

inline constexpr char kModel[] = "org/tiny";
inline constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";

class StubHub {
 public:
  using Pieces = std::vector<std::string>;
  // Answers instead of the stub, when it returns something. Called under a lock.
  using Trouble = std::function<std::optional<Pieces>(const CannedRequest&)>;

  StubHub()
      : cdn_([this](const CannedRequest& request) { return AnswerCdn(request); }),
        hub_([this](const CannedRequest& request) { return Answer(request); }) {
    files_ = {{"config.json", "{}"},
              {"tokenizer.json", "{\"model\": {}}"},
              {"chat_template.jinja", "{{ messages }}"},
              {"pytorch_model.bin", "a pickle"},
              {"../evil.json", "{}"},
              {"original/params.json", "{}"},
              {"model.safetensors", std::string(300'000, 'w')}};
  }

  std::string url() const { return hub_.url(); }
  std::string cdn_url() const { return cdn_.url(); }
  void SetFile(const std::string& name, const std::string& content) { files_[name] = content; }
  void RemoveFile(const std::string& name) { files_.erase(name); }
  const std::string& Content(const std::string& name) const { return files_.at(name); }
  void SetTrouble(Trouble trouble) { trouble_ = std::move(trouble); }

  // Request heads so far whose first line contains `fragment`.
  std::vector<std::string> Seen(const std::string& fragment) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::string> found;
    for (const std::string& head : seen_) {
      if (head.substr(0, head.find('\r')).find(fragment) != std::string::npos) {
        found.push_back(head);
      }
    }
    return found;
  }

  // What a file's content is answered with, from the byte that Range asks for.
  static Pieces ContentResponse(const CannedRequest& request, const std::string& content) {
    const size_t range = request.head.find("Range: bytes=");
    if (range == std::string::npos) return {CannedResponse(200, content, "binary/octet-stream")};
    const size_t begin = std::stoul(request.head.substr(range + 13));
    const std::string rest = content.substr(begin);
    return {"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: " +
            std::to_string(rest.size()) + "\r\nContent-Range: bytes " + std::to_string(begin) +
            "-" + std::to_string(content.size() - 1) + "/" + std::to_string(content.size()) +
            "\r\n\r\n" + rest};
  }

  static Pieces Refusal(int status, const std::string& code, const std::string& headers = "") {
    return {"HTTP/1.1 " + std::to_string(status) + " X\r\nConnection: close\r\nX-Error-Code: " +
            code + "\r\n" + headers + "Content-Length: 0\r\n\r\n"};
  }

 private:
  Pieces Answer(const CannedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    seen_.push_back(request.head);
    if (trouble_) {
      if (auto pieces = trouble_(request)) return *pieces;
    }
    const size_t begin = request.head.find(' ') + 1;
    const std::string target = request.head.substr(begin, request.head.find(' ', begin) - begin);
    if (target.find("/api/models/org/tiny/revision/") == 0) return {Listing()};
    const std::string prefix = std::string("/org/tiny/resolve/") + kCommit + "/";
    const auto file = files_.find(target.substr(std::min(target.size(), prefix.size())));
    if (target.compare(0, prefix.size(), prefix) != 0) return Refusal(404, "RepoNotFound");
    if (file == files_.end()) return Refusal(404, "EntryNotFound");
    const bool head_only = request.head.compare(0, 4, "HEAD") == 0;
    return {FileHead(file->first, file->second) + (head_only ? "" : Body(*file))};
  }

  static bool IsLarge(const std::string& name) {
    return name.find(".safetensors") != std::string::npos &&
           name.find(".json") == std::string::npos;
  }

  // Large files lie elsewhere; the redirect says what they are.
  std::string FileHead(const std::string& name, const std::string& content) const {
    const std::string common =
        std::string("X-Repo-Commit: ") + kCommit + "\r\nConnection: close\r\n";
    if (!IsLarge(name)) {
      return "HTTP/1.1 200 OK\r\n" + common + "ETag: \"" + HashOf(content, false) +
             "\"\r\nContent-Length: " + std::to_string(content.size()) + "\r\n\r\n";
    }
    return "HTTP/1.1 302 Found\r\n" + common + "X-Linked-Etag: \"" + HashOf(content, true) +
           "\"\r\nX-Linked-Size: " + std::to_string(content.size()) +
           "\r\nLocation: " + cdn_.url() + "/blob/" + name +
           "?signature=a+b%2F\r\nContent-Length: 0\r\n\r\n";
  }
  static std::string Body(const std::pair<const std::string, std::string>& file) {
    return IsLarge(file.first) ? "" : file.second;
  }

  Pieces AnswerCdn(const CannedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    seen_.push_back(request.head);
    if (trouble_) {
      if (auto pieces = trouble_(request)) return *pieces;
    }
    const size_t begin = request.head.find("/blob/") + 6;
    return ContentResponse(request,
                           files_.at(request.head.substr(begin, request.head.find('?') - begin)));
  }

  std::string Listing() const {
    std::string siblings;
    for (const auto& [name, content] : files_) {
      if (!siblings.empty()) siblings += ",";
      siblings +=
          "{\"rfilename\":\"" + name + "\",\"size\":" + std::to_string(content.size()) + "}";
    }
    return CannedResponse(200, std::string("{\"id\":\"org/tiny\",\"sha\":\"") + kCommit +
                                   "\",\"siblings\":[" + siblings + "]}");
  }

  std::mutex mutex_;
  std::map<std::string, std::string> files_;
  std::vector<std::string> seen_;
  Trouble trouble_;
  CannedServer cdn_;
  CannedServer hub_;
};

}  // namespace kvs
