// ApiKeys: who may ask. Only SHA-256 digests are kept, and every one is compared in constant time,
// so that neither a core dump nor a clock tells a key.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvs {

class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);

  bool enabled() const { return !digests_.empty(); }
  // The digest of the key in an Authorization header ("Bearer KEY"); nullopt when it is none of
  // ours.
  std::optional<std::string> Check(const std::string* authorization) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  static Digest DigestOf(std::string_view key);

  std::vector<Digest> digests_;
};

}  // namespace kvs
