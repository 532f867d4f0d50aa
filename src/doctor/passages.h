// Plain prose for the matrix: three texts that go on in ways a model can be sure of in part.
#pragma once

#include <array>
#include <string_view>

namespace kvs {

inline constexpr std::array<std::string_view, 3> kPassages = {
    R"(Water is a substance made of hydrogen and oxygen. At sea level it boils at one hundred
degrees Celsius and freezes at zero. In the mountains the air is thinner, the pressure is
lower, and water boils before it reaches one hundred degrees. A cook who lives high up has
to wait longer for potatoes, because the water around them is not as hot as it would be at
the coast. A pot with a tight lid raises the pressure again, and the potatoes are done
sooner. Salt changes the boiling point as well, though so little that nobody at the table
would notice. Ice floats because it takes more room than the water it was made of; a bottle
that is full to the brim may burst in the cold. Question: at what temperature does water
boil at sea level? Answer: )",
    R"(The capital of Italy is Rome. The capital of France is Paris. The capital of Spain is
Madrid. The capital of Germany is Berlin. The capital of Austria is Vienna. The capital of
Portugal is Lisbon. The capital of Norway is Oslo. The capital of Sweden is Stockholm. The
capital of Finland is Helsinki. The capital of Poland is Warsaw. The capital of Greece is
Athens. The capital of Hungary is Budapest. The capital of Ireland is Dublin. The capital of
Denmark is Copenhagen. The capital of Belgium is Brussels. The capital of Japan is Tokyo.
The capital of China is Beijing. The capital of Egypt is Cairo. The capital of Kenya is
Nairobi. The capital of Peru is Lima. The capital of Canada is Ottawa. Now once more from
the beginning. The capital of Italy is Rome. The capital of France is )",
    R"(def count_words(text):
    """Returns how often each word stands in the text."""
    counts = {}
    for word in text.lower().split():
        word = word.strip(".,;:!?")
        if not word:
            continue
        counts[word] = counts.get(word, 0) + 1
    return counts


def most_common(counts, number):
    """Returns the most common words, the most common first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ordered[:number]


def print_report(text, number=10):
    """Prints the most common words of the text, one a line."""
    counts = count_words(text)
    for word, count in most_common(counts, number):
        print(f"{count:6d} {word}")


if __name__ == "__main__":
    import sys

    with open(sys.argv[1], encoding="utf-8") as file:
        print_report(file.read())
)"};

}  // namespace kvs
