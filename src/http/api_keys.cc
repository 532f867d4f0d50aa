#include "http/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "kvserve/check.h"

namespace kvs {

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(DigestOf(key));
}

ApiKeys::Digest ApiKeys::DigestOf(std::string_view key) {
  Digest digest;
  KVS_CHECK(EVP_Digest(key.data(), key.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return digest;
}

std::optional<std::string> ApiKeys::Check(const std::string* authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view value = authorization != nullptr ? *authorization : std::string_view();
  bool is_bearer = value.size() >= kScheme.size();
  for (size_t i = 0; i < kScheme.size() && is_bearer; ++i) {
    is_bearer = (value[i] | 0x20) == kScheme[i] || value[i] == kScheme[i];
  }
  if (!is_bearer) return std::nullopt;
  value.remove_prefix(kScheme.size());
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  const Digest asked = DigestOf(value);
  bool found = false;
  for (const Digest& digest : digests_) {
    found |= CRYPTO_memcmp(asked.data(), digest.data(), digest.size()) == 0;
  }
  if (!found) return std::nullopt;
  return std::string(asked.begin(), asked.end());
}

}  // namespace kvs
