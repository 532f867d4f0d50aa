#include "tokenize/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>
#include <span>
#include <unordered_set>

#include "kvserve/check.h"
#include "tokenize/byte_level.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

constexpr uint32_t kEmpty = UINT32_MAX;
constexpr uint32_t kGone = UINT32_MAX;

constexpr uint64_t PairOf(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

constexpr uint64_t Mix(uint64_t x) {  // the finalizer of SplitMix64
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// U+2581 stands for a space.
constexpr std::string_view kMark = "\xE2\x96\x81";

// Each ASCII character is a class of its own, the mark is one, all others are one.
constexpr size_t kClassOfMark = 128;
constexpr size_t kClassOfOthers = 129;

size_t ClassOf(std::string_view character) {
  if (character.size() == 1) return static_cast<unsigned char>(character[0]);
  return character == kMark ? kClassOfMark : kClassOfOthers;
}

// Up to so many units all pairs are looked at before each merge.
constexpr size_t kFewMax = 48;

// Slots for `count` entries, at most half full.
size_t NumSlots(size_t count) { return std::bit_ceil(2 * count + 2); }

}  // namespace

Bpe::Bpe(const BpeModel& model)
    : byte_level_(model.byte_level),
      ignore_merges_(model.ignore_merges),
      fuse_unknown_(model.fuse_unknown) {
  if (model.unknown) unknown_ = *model.unknown;
  AddTexts(model);
  AddMerges(model.merges);
  for (uint32_t c = 0; c < token_of_ascii_.size(); ++c) {
    const char text = static_cast<char>(c);
    token_of_ascii_[c] = FindText({&text, 1});
  }
  if (byte_level_ || model.byte_fallback) AddByteTokens();
  if (!byte_level_) NoteJoins(model.merges);
}

void Bpe::AddByteTokens() {
  token_of_byte_.resize(256, kNoToken);
  bool complete = true;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const std::string text =
        byte_level_ ? std::string(1, static_cast<char>(byte)) : fmt::format("<0x{:02X}>", byte);
    token_of_byte_[byte] = FindText(text);
    complete &= token_of_byte_[byte] != kNoToken;
  }
  if (!complete && !byte_level_) token_of_byte_.clear();
}

void Bpe::AddTexts(const BpeModel& model) {
  texts_.resize(model.vocab.size());
  text_slots_.assign(NumSlots(model.vocab.size()), kEmpty);
  for (uint32_t id = 0; id < model.vocab.size(); ++id) {
    if (!model.vocab[id]) continue;
    // A byte-level token that spells no bytes is never the result of an encoding.
    std::optional<std::string> text =
        byte_level_ ? ByteLevelDecode(*model.vocab[id]) : model.vocab[id];
    if (!text || text->empty()) continue;
    texts_[id] = *std::move(text);
    size_t slot = std::hash<std::string_view>{}(texts_[id]);
    while (text_slots_[slot & (text_slots_.size() - 1)] != kEmpty) ++slot;
    text_slots_[slot & (text_slots_.size() - 1)] = id;
  }
}

void Bpe::NoteJoins(const std::vector<BpeMerge>& merges) {
  // Tokens that are not spelled like the characters they stand for: a merge of one of them would
  // join characters that its spelling does not show.
  std::unordered_set<uint32_t> disguised = {unknown_.value};
  for (const TokenId token : token_of_byte_) disguised.insert(token.value);
  for (const BpeMerge& merge : merges) {
    const std::string_view left = texts_[merge.left.value];
    const std::string_view right = texts_[merge.right.value];
    if (disguised.count(merge.left.value) > 0 || disguised.count(merge.right.value) > 0 ||
        left.empty() || right.empty()) {
      for (auto& row : joins_) row.fill(true);
      return;
    }
    const std::string_view last =
        left.substr(left.size() - CodePointBefore(left, left.size()).num_bytes);
    const std::string_view first = right.substr(0, CodePointAt(right, 0).num_bytes);
    joins_[ClassOf(last)][ClassOf(first)] = true;
  }
}

TokenId Bpe::TokenOfCharacter(std::string_view character) const {
  if (character.size() == 1) return token_of_ascii_[static_cast<unsigned char>(character[0])];
  return FindText(character);
}

TokenId Bpe::FindText(std::string_view text) const {
  for (size_t slot = std::hash<std::string_view>{}(text);; ++slot) {
    const uint32_t id = text_slots_[slot & (text_slots_.size() - 1)];
    if (id == kEmpty) return kNoToken;
    if (texts_[id] == text) return TokenId{id};
  }
}

void Bpe::AddMerges(const std::vector<BpeMerge>& merges) {
  merge_slots_.assign(NumSlots(merges.size()), Merge{0, kEmpty, 0});
  const size_t mask = merge_slots_.size() - 1;
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = PairOf(merges[rank].left.value, merges[rank].right.value);
    size_t slot = Mix(pair);
    while (merge_slots_[slot & mask].rank != kEmpty && merge_slots_[slot & mask].pair != pair) {
      ++slot;
    }
    // Of equal pairs the last counts, as in the library that writes these files.
    merge_slots_[slot & mask] = {pair, rank, merges[rank].merged.value};
  }
}

const Bpe::Merge* Bpe::FindMerge(uint32_t left, uint32_t right) const {
  const uint64_t pair = PairOf(left, right);
  for (size_t slot = Mix(pair);; ++slot) {
    const Merge& merge = merge_slots_[slot & (merge_slots_.size() - 1)];
    if (merge.rank == kEmpty) return nullptr;
    if (merge.pair == pair) return &merge;
  }
}

void Bpe::SplitIntoBytes(std::string_view piece, std::vector<Symbol>& symbols) const {
  for (const char c : piece) {
    symbols.push_back({token_of_byte_[static_cast<unsigned char>(c)].value, 0, 0});
  }
}

void Bpe::SplitIntoCharacters(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  for (size_t i = 0; i < piece.size();) {
    const std::string_view character = piece.substr(i, CodePointAt(piece, i).num_bytes);
    i += character.size();
    const TokenId token = TokenOfCharacter(character);
    const bool unknown = token == kNoToken && token_of_byte_.empty();
    if (token != kNoToken) {
      symbols.push_back({token.value, 0, 0});
    } else if (!unknown) {
      SplitIntoBytes(character, symbols);
    } else if (unknown_ != kNoToken && !(after_unknown && fuse_unknown_)) {
      symbols.push_back({unknown_.value, 0, 0});
    }
    after_unknown = unknown;
  }
}

size_t Bpe::PartEnd(std::string_view piece) const {
  // Without bytes to fall back to, characters in a row may become one unknown token.
  if (byte_level_ || token_of_byte_.empty()) return piece.size();
  size_t end = CodePointAt(piece, 0).num_bytes;
  size_t last_class = ClassOf(piece.substr(0, end));
  while (end < piece.size()) {
    const std::string_view next = piece.substr(end, CodePointAt(piece, end).num_bytes);
    const size_t next_class = ClassOf(next);
    if (!joins_[last_class][next_class]) break;
    last_class = next_class;
    end += next.size();
  }
  return end;
}

void Bpe::EncodePart(std::string_view part, Scratch& scratch, std::vector<TokenId>& out) const {
  if (scratch.known.Find(part, out)) return;
  const size_t before = out.size();
  scratch.symbols.clear();
  scratch.symbols.reserve(part.size());
  if (byte_level_) {
    SplitIntoBytes(part, scratch.symbols);
  } else {
    SplitIntoCharacters(part, scratch.symbols);
  }
  Join(scratch, out);
  scratch.known.Put(part, std::span(out).subspan(before));
}

void Bpe::Join(Scratch& scratch, std::vector<TokenId>& out) const {
  if (scratch.symbols.size() <= kFewMax) {
    JoinFew(scratch.symbols, out);
  } else {
    JoinMany(scratch, out);
  }
}

void Bpe::JoinFew(const std::vector<Symbol>& symbols, std::vector<TokenId>& out) const {
  uint32_t tokens[kFewMax];
  uint32_t ranks[kFewMax];   // of the merge of token i with the next; kEmpty: there is none
  uint32_t merged[kFewMax];  // what it gives
  size_t count = symbols.size();
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge(tokens[i], tokens[i + 1]);
    ranks[i] = merge != nullptr ? merge->rank : kEmpty;
    merged[i] = merge != nullptr ? merge->merged : 0;
  };
  for (size_t i = 0; i < count; ++i) tokens[i] = symbols[i].token;
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const size_t best =
        static_cast<size_t>(std::min_element(ranks, ranks + count - 1) - ranks);  // the leftmost
    if (ranks[best] == kEmpty) break;
    tokens[best] = merged[best];
    std::copy(tokens + best + 2, tokens + count, tokens + best + 1);
    std::copy(ranks + best + 2, ranks + count, ranks + best + 1);
    std::copy(merged + best + 2, merged + count, merged + best + 1);
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  for (size_t i = 0; i < count; ++i) out.push_back(TokenId{tokens[i]});
}

void Bpe::JoinMany(Scratch& scratch, std::vector<TokenId>& out) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& heap = scratch.heap;
  const auto later = std::greater<uint64_t>();
  heap.clear();
  const int32_t count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
    if (i + 1 == count) break;
    const Merge* merge = FindMerge(symbols[i].token, symbols[i + 1].token);
    if (merge != nullptr) heap.push_back(PairOf(merge->rank, static_cast<uint32_t>(i)));
  }
  std::make_heap(heap.begin(), heap.end(), later);

  const auto consider = [&](int32_t left) {
    const int32_t right = left < 0 ? -1 : symbols[left].next;
    if (right < 0) return;
    const Merge* merge = FindMerge(symbols[left].token, symbols[right].token);
    if (merge == nullptr) return;
    heap.push_back(PairOf(merge->rank, static_cast<uint32_t>(left)));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const uint32_t rank = static_cast<uint32_t>(heap.back() >> 32);
    const int32_t left = static_cast<int32_t>(heap.back() & UINT32_MAX);
    heap.pop_back();
    Symbol& symbol = symbols[left];
    if (symbol.token == kGone || symbol.next < 0) continue;
    Symbol& joined = symbols[symbol.next];
    const Merge* merge = FindMerge(symbol.token, joined.token);
    if (merge == nullptr || merge->rank != rank) continue;  // a neighbor has changed since
    symbol.token = merge->merged;
    symbol.next = joined.next;
    joined.token = kGone;
    if (symbol.next >= 0) symbols[symbol.next].previous = left;
    consider(symbol.previous);
    consider(left);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.token != kGone) out.push_back(TokenId{symbol.token});
  }
}

void Bpe::Encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.empty()) return;
  if (ignore_merges_) {
    const TokenId whole = FindText(piece);
    if (whole != kNoToken) return out.push_back(whole);
  }
  KVS_CHECK_OP(piece.size(), <, size_t{INT32_MAX});
  while (!piece.empty()) {
    const size_t end = PartEnd(piece);
    EncodePart(piece.substr(0, end), scratch, out);
    piece.remove_prefix(end);
  }
}

}  // namespace kvs
