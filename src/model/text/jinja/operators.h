// What Python's operators do to values. Errors are Python's TypeErrors: invalid_argument.
#pragma once

#include "larder/result.h"
#include "model/text/jinja/ast.h"
#include "model/text/jinja/value.h"

namespace larder::jinja {

/// + - * / // % ** . Integers that leave 64 bits are an error (Python's would grow).
Result<Value> arithmetic(Op op, const Value& a, const Value& b, Budget& budget);
Result<Value> negate(const Value& a);
/// == != < <= > >= in not_in.
Result<bool> compare(Op op, const Value& a, const Value& b, Budget& budget);
Result<bool> equal(const Value& a, const Value& b, Budget& budget);
/// -1, 0 or 1 for numbers and for texts; other pairs have no order.
Result<int> order(const Value& a, const Value& b, Budget& budget);

/// object[key]; undefined when absent.
Result<Value> item_of(const Value& object, const Value& key, Budget& budget);
/// Bounds that are None or undefined stand for Python's defaults.
Result<Value> slice_of(const Value& object, const Value (&bounds)[3], Budget& budget);
/// What a for statement walks over: elements, characters, keys; nothing for undefined.
Result<std::shared_ptr<const List>> elements_of(const Value& object, Budget& budget);
/// Elements of lists and dicts, characters of a string.
Result<std::int64_t> length_of(const Value& object, Budget& budget);

}  // namespace larder::jinja
