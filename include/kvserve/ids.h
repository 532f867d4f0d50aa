// Ids are types: a block index, a slot and a token id are all uint32_t, and mixing two of them
// would hand one client another client's cache.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace kvs {

template <class Tag, class Rep = uint32_t>
struct Id {
  Rep value;
  friend constexpr auto operator<=>(Id, Id) = default;  // NOLINT(modernize-use-nullptr): no pointer
};

using TokenId = Id<struct TokenIdTag>;
using BlockId = Id<struct BlockIdTag>;
using SlotId = Id<struct SlotIdTag>;  // block * block_size + offset: where one token's K/V live
using RequestId = Id<struct RequestIdTag, uint64_t>;

// Never allocated; padding of block tables points here.
inline constexpr BlockId kNullBlock{0};
// "No token": what the sampler returns for a row whose logits are not finite.
inline constexpr TokenId kNoToken{UINT32_MAX};
// Of an input token that the host knows: no row of the last sampling has it.
inline constexpr uint32_t kNoSampledRow = UINT32_MAX;

constexpr SlotId SlotOf(BlockId block, uint32_t offset, uint32_t block_size) {
  return {block.value * block_size + offset};
}

static_assert(SlotOf(BlockId{3}, 5, 16) == SlotId{53});
static_assert(sizeof(TokenId) == 4, "spans of TokenId are hashed and uploaded as raw u32");

}  // namespace kvs

template <class Tag, class Rep>
struct std::hash<kvs::Id<Tag, Rep>> {
  size_t operator()(kvs::Id<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value); }
};
