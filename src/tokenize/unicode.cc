#include "tokenize/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "kvserve/check.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

constexpr utf8proc_option_t Options(int form) {
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form);
}

constexpr utf8proc_option_t OptionsOf(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::kNfc:
      return Options(UTF8PROC_COMPOSE);
    case UnicodeForm::kNfd:
      return Options(UTF8PROC_DECOMPOSE);
    case UnicodeForm::kNfkc:
      return Options(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    case UnicodeForm::kNfkd:
      return Options(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  }
  return Options(0);
}

utf8proc_int16_t CombiningClass(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

std::vector<utf8proc_int32_t> Decompose(std::string_view text, utf8proc_option_t options) {
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = CodePointAt(text, i);
    i += c.num_bytes;
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.value),
                                                           parts, 32, options, &boundary);
    KVS_CHECK(count >= 0 && count <= 32);
    chars.insert(chars.end(), parts, parts + count);
  }
  return chars;
}

// Canonical ordering. utf8proc's own takes quadratic time on long runs of marks.
void SortMarks(std::vector<utf8proc_int32_t>& chars) {
  const auto is_mark = [](utf8proc_int32_t c) { return CombiningClass(c) > 0; };
  for (auto run = std::find_if(chars.begin(), chars.end(), is_mark); run != chars.end();) {
    const auto end = std::find_if_not(run, chars.end(), is_mark);
    std::stable_sort(run, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    run = std::find_if(end, chars.end(), is_mark);
  }
}

}  // namespace

bool IsWhiteSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(uint32_t c) {
  if (c == 0x200C || c == 0x200D) return true;  // Join_Control
  // Circled and squared letters are Alphabetic, although they are symbols.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

std::string NormalizeUnicode(std::string_view text, UnicodeForm form) {
  // Below U+0080 every normal form is the text itself.
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return std::string(text);
  std::vector<utf8proc_int32_t> chars = Decompose(text, OptionsOf(form));
  SortMarks(chars);
  const utf8proc_ssize_t length = utf8proc_normalize_utf32(
      chars.data(), static_cast<utf8proc_ssize_t>(chars.size()), OptionsOf(form));
  KVS_CHECK_OP(length, >=, 0);
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < length; ++i) AppendUtf8(static_cast<uint32_t>(chars[i]), out);
  return out;
}

}  // namespace kvs
