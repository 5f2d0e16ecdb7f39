#include "compiler/import/source.h"

#include <algorithm>

namespace autospc::import {
namespace {

bool InsideTorch(std::string_view file) {
  return file.starts_with("torch/") || file.find("/site-packages/torch/") != file.npos ||
         file.find("/dist-packages/torch/") != file.npos;
}

}  // namespace

std::string SourceLine::Short() const { return file.empty() ? "" : file.substr(file.rfind('/') + 1) + ":" + line; }
std::string SourceLine::Full() const { return file.empty() ? "" : file + ":" + line; }

SourceLine SourceOf(std::string_view trace) {
  constexpr std::string_view kFile = "File \"", kLine = "\", line ";
  SourceLine innermost;
  for (size_t end = trace.size(); end != 0;) {
    const size_t at = trace.rfind(kFile, end - 1);
    if (at == trace.npos) break;
    end = at;
    const std::string_view frame = trace.substr(at + kFile.size());
    const size_t quote = frame.find(kLine);
    if (quote == frame.npos || quote > frame.find('\n')) continue;
    const std::string_view file = frame.substr(0, quote);
    const std::string_view number = frame.substr(quote + kLine.size());
    const size_t digits = std::min(number.find_first_not_of("0123456789"), number.size());
    if (file.starts_with('<')) continue;  // generated code, "<eval_with_key>.176"
    SourceLine source{std::string(file), std::string(number.substr(0, digits))};
    if (!InsideTorch(file)) return source;
    if (innermost.file.empty()) innermost = std::move(source);
  }
  return innermost;
}

std::string ModuleOf(std::string_view stack) {
  const size_t last = stack.rfind(';');
  std::string_view entry = last == stack.npos ? stack : stack.substr(last + 1);
  const size_t first_comma = entry.find(','), last_comma = entry.rfind(',');
  if (first_comma == entry.npos || first_comma == last_comma) return "";
  std::string_view path = entry.substr(first_comma + 1, last_comma - first_comma - 1);
  if (path.starts_with('_')) return "";  // "_empty_nn_module_stack_from_metadata_hook"
  if (const size_t at = path.rfind('@'); at != path.npos) path = path.substr(0, at);
  return std::string(path);
}

}  // namespace autospc::import
