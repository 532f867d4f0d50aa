#include "doctor/matrix_verdict.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvs {
namespace {

constexpr char kBothFallbacks[] =
    "use one flag alone: --kv-cache-dtype fp8 where memory is short, --enable-prefix-caching where "
    "prompts share long beginnings; report it with the cell's log";

bool HasAnswered(const CellResult& cell) { return cell.failure == CellFailure::kNone; }

void SetFailure(CellResult& cell, CellFailure failure, std::string what) {
  if (!HasAnswered(cell)) return;
  cell.failure = failure;
  cell.what = std::move(what);
}

// Every request finds the blocks that are there for it, and no others.
void JudgeHits(const std::vector<CellRequest>& requests, bool prefix_caching, CellResult& cell) {
  for (size_t i = 0; i < requests.size() && i < cell.answers.size(); ++i) {
    const CellAnswer& answer = cell.answers[i];
    const uint32_t wanted = prefix_caching ? requests[i].reusable_tokens : 0;
    const uint64_t counted = answer.hit_growth.value_or(0);
    if (answer.cached_tokens == wanted && counted == wanted) continue;
    const bool missing = answer.cached_tokens < wanted || counted < wanted;
    SetFailure(cell, missing ? CellFailure::kMissingHit : CellFailure::kFalseHit,
               fmt::format("'{}' found {} cached tokens ({} by /metrics) instead of {}",
                           answer.name, answer.cached_tokens, counted, wanted));
  }
}

// A request that was sent before has the same answer again, by itself and beside others.
void JudgeRepetitions(const std::vector<CellRequest>& requests, const Closeness& closeness,
                      CellResult& cell) {
  size_t next_at_once = 0;
  for (size_t i = 0; i < cell.answers.size(); ++i) {
    if (i > 0 && requests[i].prompt == requests[i - 1].prompt) {
      if (const auto difference = FindDifference(cell.answers[i - 1], cell.answers[i], closeness)) {
        SetFailure(
            cell, CellFailure::kWrongText,
            fmt::format("'{}' differs from the first time: {}", requests[i].name, *difference));
      }
    }
    if (next_at_once >= cell.at_once.size() ||
        cell.at_once[next_at_once].name != cell.answers[i].name) {
      continue;
    }
    const CellAnswer& again = cell.at_once[next_at_once++];
    if (const auto difference = FindDifference(cell.answers[i], again, closeness)) {
      SetFailure(
          cell, CellFailure::kWrongText,
          fmt::format("'{}' differs when it is sent with others: {}", again.name, *difference));
    }
  }
}

void JudgeAgainst(const CellResult& reference, const char* name, const Closeness& closeness,
                  CellResult& cell) {
  if (!HasAnswered(reference) || !HasAnswered(cell)) return;
  if (const auto difference = FindDifference(reference.answers, cell.answers, closeness)) {
    SetFailure(cell, CellFailure::kWrongText,
               fmt::format("the text differs from that of {}: {}", name, *difference));
  }
}

// Cell 1 is what others are held against. Where cells 2 and 3 agree with each other and neither
// with it, the odd one is cell 1.
void JudgeReference(const MatrixRules& rules, CellResults& cells) {
  if (!HasAnswered(cells[0]) || !HasAnswered(cells[1]) || !HasAnswered(cells[2])) return;
  const auto differs = [&](size_t a, size_t b, const Closeness& closeness) {
    return FindDifference(cells[a].answers, cells[b].answers, closeness);
  };
  const auto from_fp8 = differs(1, 0, rules.fp8);
  if (!from_fp8 || !differs(2, 0, rules.same_type) || differs(2, 1, rules.fp8)) return;
  SetFailure(cells[0], CellFailure::kWrongText,
             "the text differs from those of cells 2 and 3, which agree: " + *from_fp8);
}

Reading ReadingOf(bool ok1, bool ok2, bool ok3, bool ok4) {
  if (!ok1) return ok2 || ok3 || ok4 ? Reading::kUnsteady : Reading::kEverything;
  if (!ok2 && !ok3) return Reading::kEachAlone;
  if (!ok2) return Reading::kFp8Alone;
  if (!ok3) return Reading::kPrefixAlone;
  return ok4 ? Reading::kPass : Reading::kInteraction;
}

// A wrong text is a matter of quality before it is one of the device.
std::string Fp8Fix(const CellResult& fp8) {
  if (fp8.failure == CellFailure::kWrongText) {
    return "leave out --kv-cache-dtype fp8, or give the model scales: kvserve calibrate; kvserve "
           "eval shows what FP8 costs it";
  }
  return "leave out --kv-cache-dtype fp8; prefix caching alone is safe";
}

std::string Unexplained(bool ok4, const char* other) {
  return ok4 ? fmt::format(", though cell 4, with {} as well, passed: run the doctor again", other)
             : std::string();
}

MatrixVerdict Explain(Reading reading, const CellResults& cells) {
  const bool ok4 = HasAnswered(cells[3]);
  switch (reading) {
    case Reading::kPass:
      return {reading, "FP8 and prefix caching work here, alone and together", {}};
    case Reading::kInteraction:
      return {reading, "FP8 and prefix caching each work alone, together they fail",
              kBothFallbacks};
    case Reading::kFp8Alone:
      return {reading,
              "the FP8 KV cache fails without prefix caching, so the pair is not the cause" +
                  Unexplained(ok4, "prefix caching"),
              Fp8Fix(cells[1])};
    case Reading::kPrefixAlone:
      return {reading,
              "prefix caching fails without FP8, so the pair is not the cause" +
                  Unexplained(ok4, "FP8"),
              "leave out --enable-prefix-caching; --kv-cache-dtype fp8 alone is safe"};
    case Reading::kEachAlone:
      return {reading, "FP8 and prefix caching fail each by itself: two faults, not a pair",
              "leave out both flags"};
    case Reading::kEverything:
      return {reading,
              "all four servers fail, also without either flag: the device, its driver or the "
              "model",
              "see cell 1's log; try --device cpu, and another driver"};
    case Reading::kUnsteady:
      return {reading,
              "the server without either flag fails where others pass: neither flag is the cause, "
              "and the fault may come and go",
              "see cell 1's log and run the doctor again; suspect the device or its driver"};
    case Reading::kInterrupted:
      return {reading, "the matrix was interrupted", "run the doctor again"};
  }
  return {};
}

}  // namespace

std::string_view ToString(Reading reading) {
  constexpr std::array<std::string_view, 8> kNames = {
      "pass",       "interaction bug", "FP8 alone", "prefix alone",
      "each alone", "everything",      "unsteady",  "interrupted"};
  return kNames[static_cast<size_t>(reading)];
}

void JudgeCells(const std::vector<CellRequest>& requests, const MatrixRules& rules,
                const CellResult* reference, CellResults& cells) {
  for (size_t i = 0; i < cells.size(); ++i) {
    JudgeHits(requests, i >= 2, cells[i]);
    JudgeRepetitions(requests, rules.same_type, cells[i]);
    if (reference == nullptr) continue;
    JudgeAgainst(*reference, "the reference", i % 2 == 1 ? rules.fp8 : rules.reference, cells[i]);
  }
  JudgeReference(rules, cells);
  JudgeAgainst(cells[0], "cell 1", rules.fp8, cells[1]);
  JudgeAgainst(cells[0], "cell 1", rules.same_type, cells[2]);
  JudgeAgainst(cells[1], "cell 2", rules.same_type, cells[3]);
  JudgeAgainst(cells[0], "cell 1", rules.fp8, cells[3]);
}

MatrixVerdict ReadMatrix(const CellResults& cells) {
  const bool interrupted = std::any_of(cells.begin(), cells.end(), [](const CellResult& cell) {
    return cell.failure == CellFailure::kInterrupted;
  });
  if (interrupted) return Explain(Reading::kInterrupted, cells);
  return Explain(ReadingOf(HasAnswered(cells[0]), HasAnswered(cells[1]), HasAnswered(cells[2]),
                           HasAnswered(cells[3])),
                 cells);
}

}  // namespace kvs
