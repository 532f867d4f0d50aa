// Text nobody has sent before: common English words in random order. A word is one or two tokens
// in most vocabularies, so lengths in tokens are predictable after one probe.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace kvs {

// `num_words` words, each with a blank in front, so that concatenated texts tokenize alike.
std::string RandomWords(uint32_t num_words, std::mt19937_64& random);

// Each word of the list once.
std::string AllWords();

}  // namespace kvs
