// What four cells say together. No processes, no network: tested case by case.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "doctor/cell.h"
#include "doctor/cell_compare.h"

namespace kvs {

enum class Reading : uint8_t {
  kPass,
  kInteraction,  // cell 4 alone: each works, together they fail
  kFp8Alone,     // cell 2, with or without cell 4
  kPrefixAlone,  // cell 3, with or without cell 4
  kEachAlone,    // cells 2 and 3: two faults
  kEverything,   // cell 1 too: neither flag is the cause
  kUnsteady,     // cell 1 fails where others pass: not the flags, and not always
  kInterrupted,
};

// "interaction bug", "FP8 alone", ...
std::string_view ToString(Reading reading);

using CellResults = std::array<CellResult, 4>;  // cells 1 to 4: neither, FP8, prefix caching, both

struct MatrixRules {
  Closeness same_type;  // with a prefix cache against without, and repeated against cold
  Closeness fp8;        // FP8 against not
  Closeness reference;  // 16 bits against another device, or other code
};

struct MatrixVerdict {
  Reading reading = Reading::kPass;
  std::string sentence;  // what it means
  std::string fix;       // empty with kPass
};

// Looks for wrong texts and wrong hits in cells that did not fail otherwise, and enters them.
// Answers are held against those of `reference` (each cell; null: there is none), of cell 1 (cells
// 2 and 3), of cell 2 (cell 4), and of the same request sent before (each cell).
void JudgeCells(const std::vector<CellRequest>& requests, const MatrixRules& rules,
                const CellResult* reference, CellResults& cells);

// REQUIRES: JudgeCells has been called.
MatrixVerdict ReadMatrix(const CellResults& cells);

}  // namespace kvs
