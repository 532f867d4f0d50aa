#include "client/random_text.h"

#include <iterator>
#include <string_view>

namespace kvs {
namespace {

constexpr std::string_view kWords[] = {
    " about",  " after",  " again",  " air",    " all",   " animal", " answer", " any",
    " ask",    " back",   " before", " began",  " best",  " big",    " book",   " both",
    " boy",    " came",   " can",    " city",   " close", " cold",   " come",   " could",
    " day",    " deep",   " did",    " door",   " down",  " each",   " earth",  " end",
    " even",   " every",  " eye",    " far",    " farm",  " father", " few",    " find",
    " first",  " follow", " food",   " found",  " four",  " friend", " from",   " garden",
    " girl",   " give",   " good",   " great",  " green", " grow",   " hand",   " hard",
    " help",   " here",   " high",   " home",   " house", " idea",   " keep",   " kind",
    " know",   " large",  " last",   " late",   " learn", " left",   " letter", " life",
    " light",  " line",   " little", " live",   " long",  " look",   " made",   " make",
    " man",    " many",   " mother", " move",   " much",  " name",   " near",   " never",
    " new",    " next",   " night",  " number", " off",   " old",    " once",   " only",
    " open",   " other",  " our",    " page",   " paper", " part",   " people", " place",
    " plant",  " play",   " point",  " read",   " river", " road",   " room",   " same",
    " school", " sea",    " second", " side",   " small", " song",   " sound",  " stop",
    " story",  " study",  " sun",    " take",   " talk",  " three",  " time",   " tree",
};

}  // namespace

std::string RandomWords(uint32_t num_words, std::mt19937_64& random) {
  std::string text;
  text.reserve(size_t{num_words} * 6);
  for (uint32_t i = 0; i < num_words; ++i) text += kWords[random() % std::size(kWords)];
  return text;
}

std::string AllWords() {
  std::string text;
  for (const std::string_view word : kWords) text += word;
  return text;
}

}  // namespace kvs
