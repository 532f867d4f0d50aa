#include "hub/digest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "hub/owned_fd.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr size_t kSha1HexDigits = 40;
constexpr size_t kSha256HexDigits = 64;
constexpr size_t kBufferBytes = 1u << 20;

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

class Digest {
 public:
  explicit Digest(const EVP_MD* kind) : context_(EVP_MD_CTX_new()) {
    KVS_CHECK(context_ != nullptr);
    KVS_CHECK(EVP_DigestInit_ex(context_.get(), kind, nullptr) == 1);
  }
  void Add(const void* data, size_t size) {
    KVS_CHECK(EVP_DigestUpdate(context_.get(), data, size) == 1);
  }
  std::string Hex() {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    KVS_CHECK(EVP_DigestFinal_ex(context_.get(), bytes, &size) == 1);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", bytes[i]);
    return hex;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, FreeDigest> context_;
};

}  // namespace

bool IsContentHash(const std::string& etag) {
  if (etag.size() != kSha1HexDigits && etag.size() != kSha256HexDigits) return false;
  return std::all_of(etag.begin(), etag.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<std::string> HashOfFile(const std::filesystem::path& path, const std::string& etag,
                               const std::function<bool(uint64_t bytes)>& on_bytes) {
  const auto failed = [&] {
    return Error(Code::kOsError, fmt::format("{}: cannot be read: {}", path.string(),
                                             std::generic_category().message(errno)));
  };
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!file || fstat(file.get(), &info) != 0) return failed();
  const bool is_git = etag.size() == kSha1HexDigits;
  Digest digest(is_git ? EVP_sha1() : EVP_sha256());
  if (is_git) {
    const std::string head = fmt::format("blob {}", info.st_size);
    digest.Add(head.c_str(), head.size() + 1);
  }
  std::vector<char> buffer(kBufferBytes);
  while (true) {
    const ssize_t size = read(file.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failed();
    if (size == 0) return digest.Hex();
    digest.Add(buffer.data(), static_cast<size_t>(size));
    if (!on_bytes(static_cast<uint64_t>(size))) {
      return Error(Code::kUnavailable, fmt::format("{}: stopped", path.string()));
    }
  }
}

}  // namespace kvs
