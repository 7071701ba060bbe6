#include "weights/pickle.h"

#include <algorithm>

namespace ribo {
namespace {

// Instructions, https://docs.python.org/3/library/pickletools.html
enum Op : uint8_t {
  kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kNone = 'N',
  kBinInt = 'J', kBinInt1 = 'K', kBinInt2 = 'M', kLong1 = 0x8a, kBinFloat = 'G',
  kNewTrue = 0x88, kNewFalse = 0x89,
  kBinUnicode = 'X', kShortBinUnicode = 0x8c, kBinUnicode8 = 0x8d,
  kEmptyTuple = ')', kTuple = 't', kTuple1 = 0x85, kTuple2 = 0x86, kTuple3 = 0x87,
  kEmptyList = ']', kAppend = 'a', kAppends = 'e',
  kEmptyDict = '}', kSetItem = 's', kSetItems = 'u',
  kGlobal = 'c', kStackGlobal = 0x93, kReduce = 'R', kBuild = 'b', kBinPersId = 'Q',
  kBinPut = 'q', kLongBinPut = 'r', kMemoize = 0x94, kBinGet = 'h', kLongBinGet = 'j',
  kProto = 0x80, kFrame = 0x95,
};

// What a state_dict is made of. A storage's type is checked where a tensor uses it.
bool is_known(std::string_view global) {
  constexpr std::string_view known[] = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2",
                                        "torch._utils _rebuild_parameter"};
  return std::find(std::begin(known), std::end(known), global) != std::end(known) ||
         (global.starts_with("torch ") && global.ends_with("Storage"));
}

}  // namespace

Pickle::Pickle(std::string_view bytes) : rest_(bytes) {
  while (step()) {
  }
}

bool Pickle::step() {
  const auto op = static_cast<uint8_t>(take(1)[0]);
  switch (op) {
    case kProto:
      if (const uint64_t version = number(1); version < 2 || version > 5) {
        throw Error(cat("its pickle is of protocol ", version, "; torch.save writes 2"));
      }
      break;
    case kFrame: take(8); break;
    case kMark: marks_.push_back(stack_.size()); break;
    case kPop: pop(); break;
    case kPopMark: pop_to_mark(); break;
    case kNone: push(Kind::none); break;
    case kNewTrue: push(Kind::boolean, 1); break;
    case kNewFalse: push(Kind::boolean, 0); break;
    case kBinInt: push(Kind::integer, static_cast<int32_t>(number(4))); break;
    case kBinInt1: push(Kind::integer, static_cast<int64_t>(number(1))); break;
    case kBinInt2: push(Kind::integer, static_cast<int64_t>(number(2))); break;
    case kLong1: {
      const uint64_t size = number(1);
      if (size > 8) throw Error("it holds a number of more than 64 bits");
      const uint64_t value = number(size);
      const bool negative = size > 0 && size < 8 && (value >> (8 * size - 1)) != 0;
      push(Kind::integer, static_cast<int64_t>(negative ? value - (uint64_t{1} << 8 * size) : value));
      break;
    }
    case kBinFloat: take(8); push(Kind::real); break;  // no tensor depends on one
    case kBinUnicode: push_text(Kind::text, take(number(4))); break;
    case kShortBinUnicode: push_text(Kind::text, take(number(1))); break;
    case kBinUnicode8: push_text(Kind::text, take(number(8))); break;
    case kEmptyTuple: push(Kind::tuple); break;
    case kTuple: push({.kind = Kind::tuple, .items = pop_to_mark()}); break;
    case kTuple1: push_tuple(1); break;
    case kTuple2: push_tuple(2); break;
    case kTuple3: push_tuple(3); break;
    case kEmptyList: push(Kind::list); break;
    case kAppend: {
      const uint32_t item = pop();
      append(pop(), {item});
      break;
    }
    case kAppends: {
      const std::vector<uint32_t> items = pop_to_mark();
      append(pop(), items);
      break;
    }
    case kEmptyDict: push(Kind::dict); break;
    case kSetItem: {
      const uint32_t value = pop(), key = pop();
      set_members(pop(), {key, value});
      break;
    }
    case kSetItems: {
      const std::vector<uint32_t> items = pop_to_mark();
      set_members(pop(), items);
      break;
    }
    case kGlobal: {
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case kStackGlobal: {
      const std::string name = expect(pop(), Kind::text, "a global's name").text;
      push_global(expect(pop(), Kind::text, "a global's module").text, name);
      break;
    }
    case kReduce: reduce(); break;
    case kBuild: {  // attributes of a state_dict, e.g. its versions: nothing that we need
      pop();
      const uint32_t object = pop();
      expect(object, Kind::dict, "an object with attributes");
      stack_.push_back(object);
      break;
    }
    case kBinPersId: load_storage(); break;
    case kBinPut: memoize(static_cast<uint32_t>(number(1))); break;
    case kLongBinPut: memoize(static_cast<uint32_t>(number(4))); break;
    case kMemoize: memoize(static_cast<uint32_t>(memo_.size())); break;
    case kBinGet: recall(static_cast<uint32_t>(number(1))); break;
    case kLongBinGet: recall(static_cast<uint32_t>(number(4))); break;
    case kStop: root_ = pop(); return false;
    default:
      throw Error(cat("its pickle holds the instruction ", int{op}, ", which no state_dict needs"));
  }
  return true;
}

std::string_view Pickle::take(uint64_t bytes) {
  if (bytes > rest_.size()) throw Error("its pickle ends too early; the file is damaged");
  const std::string_view out = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return out;
}

uint64_t Pickle::number(size_t bytes) {
  uint64_t out = 0;
  const std::string_view digits = take(bytes);
  for (size_t i = 0; i < bytes; ++i) out |= uint64_t{static_cast<uint8_t>(digits[i])} << 8 * i;
  return out;
}

std::string_view Pickle::line() {
  const std::string_view out = take(std::min(rest_.find('\n'), rest_.size()));
  take(1);
  return out;
}

uint32_t Pickle::pop() {
  if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) {
    throw Error("its pickle takes a value where there is none; the file is damaged");
  }
  const uint32_t out = stack_.back();
  stack_.pop_back();
  return out;
}

std::vector<uint32_t> Pickle::pop_to_mark() {
  if (marks_.empty()) throw Error("its pickle lacks a mark; the file is damaged");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<uint32_t> out(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return out;
}

void Pickle::push(PickleValue value) {
  stack_.push_back(static_cast<uint32_t>(values_.size()));
  values_.push_back(std::move(value));
}

void Pickle::push_text(Kind kind, std::string_view text) {
  push({.kind = kind, .text = std::string(text)});
}

void Pickle::push_tuple(size_t size) {
  PickleValue tuple{.kind = Kind::tuple, .items = std::vector<uint32_t>(size)};
  for (size_t i = size; i > 0; --i) tuple.items[i - 1] = pop();
  push(std::move(tuple));
}

void Pickle::push_global(std::string_view module, std::string_view name) {
  const std::string global = cat(module, " ", name);
  if (!is_known(global)) {
    throw Error(cat("its pickle asks for `", std::string(module.substr(0, 100)), ".",
                    std::string(name.substr(0, 100)),
                    "`, which is no part of a state_dict; nothing of it was run. In Python, save "
                    "the weights alone: torch.save(model.state_dict(), path)"));
  }
  push_text(Kind::global, global);
}

PickleValue& Pickle::expect(uint32_t index, Kind kind, const char* what) {
  if (values_[index].kind != kind) {
    throw Error(cat("its pickle has another value in place of ", what));
  }
  return values_[index];
}

void Pickle::set_members(uint32_t dict, const std::vector<uint32_t>& keys_and_values) {
  auto& members = expect(dict, Kind::dict, "a dict").members;
  if (keys_and_values.size() % 2 != 0) throw Error("its pickle has a key without a value");
  for (size_t i = 0; i < keys_and_values.size(); i += 2) {
    members.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
  }
  stack_.push_back(dict);
}

void Pickle::append(uint32_t list, const std::vector<uint32_t>& items) {
  auto& own = expect(list, Kind::list, "a list").items;
  own.insert(own.end(), items.begin(), items.end());
  stack_.push_back(list);
}

void Pickle::memoize(uint32_t key) {
  const uint32_t top = pop();
  stack_.push_back(top);
  memo_[key] = top;
}

void Pickle::recall(uint32_t key) {
  const auto it = memo_.find(key);
  if (it == memo_.end()) throw Error("its pickle recalls a value that it did not keep");
  stack_.push_back(it->second);
}

void Pickle::reduce() {
  // Copies of one long tuple, made again and again, would outgrow the file.
  const auto& given = expect(pop(), Kind::tuple, "arguments").items;
  if (given.size() > 8) throw Error("its pickle has a call with too many arguments");
  std::vector<uint32_t> arguments = given;
  const std::string global = expect(pop(), Kind::global, "what makes an object").text;
  if (global == "collections OrderedDict") {
    if (!arguments.empty()) throw Error("its pickle fills an OrderedDict in an unknown way");
    push(Kind::dict);
  } else if (global == "torch._utils _rebuild_parameter") {
    if (arguments.empty()) throw Error("its pickle has a parameter without a tensor");
    expect(arguments[0], Kind::tensor, "a parameter's tensor");
    stack_.push_back(arguments[0]);
  } else if (global == "torch._utils _rebuild_tensor_v2") {
    if (arguments.size() < 4) throw Error("its pickle has a tensor without a shape");
    push({.kind = Kind::tensor, .items = std::move(arguments)});
  } else {
    throw Error(cat("its pickle calls `", global, "`"));
  }
}

// ('storage', type, key, device, number of elements)
void Pickle::load_storage() {
  const uint32_t tuple = pop();
  if (expect(tuple, Kind::tuple, "a storage").items.size() != 5) {
    throw Error("its pickle has a storage of an unknown form");
  }
  const std::vector<uint32_t> items = values_[tuple].items;
  if (expect(items[2], Kind::text, "a storage's key").text.size() > 100 || expect(items[0], Kind::text, "a storage's tag").text != "storage") {
    throw Error("its pickle has a storage of an unknown form");
  }
  expect(items[1], Kind::global, "a storage's type");
  expect(items[4], Kind::integer, "a storage's size");
  push({.kind = Kind::storage,
        .integer = values_[items[4]].integer,
        .text = expect(items[2], Kind::text, "a storage's key").text,
        .items = {items[1]}});
}

}  // namespace ribo
