// "%s of %d" % (a, b): the part of Python's printf-style formatting that templates use.
#pragma once

#include "template/value.h"

namespace kvs::jinja {

// Conversions s r d i f x %, with flags - 0 +, a width and a precision of at most three digits.
// `arguments`: a tuple, or the one value. Throws TemplateError where Python raises, and for other
// conversions.
Text PercentFormat(const Text& format, const Value& arguments);

}  // namespace kvs::jinja
