#include "cli/flags.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <boost/any.hpp>
#include <boost/program_options/parsers.hpp>
#include <charconv>
#include <cmath>
#include <exception>
#include <new>
#include <numeric>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

namespace autospc::cli {
namespace {

// "--seq_len=a_b" -> "--seq-len=a_b"; what follows a bare "--" is no flag.
std::vector<std::string> WithDashes(std::vector<std::string> arguments) {
  for (std::string& a : arguments) {
    if (a == "--") break;
    if (!a.starts_with("--")) continue;
    std::replace(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.find('='), a.size())), '_', '-');
  }
  return arguments;
}

Error Usage(std::string what, std::string hint) { return {Code::kUsage, std::move(what), "", std::move(hint)}; }

std::string DidYouMean(const std::string& nearest) {
  return nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest);
}

// What Boost says of a failure. It puts values into a text of %placeholders%, and goes on for ever where a value is one of those.
std::string Said(const po::error& failure) {
  struct Reader : po::error_with_option_name {
    static const auto& Of(const po::error_with_option_name& e) { return e.*&Reader::m_substitutions; }
  };
  if (const auto* about = dynamic_cast<const po::error_with_option_name*>(&failure)) {
    for (const auto& [placeholder, value] : Reader::Of(*about)) {
      if (value.find('%') != std::string::npos) return fmt::format("'{}' can't be read", value);
    }
  }
  return failure.what();
}

// Boost's message-making depends on the kind of its exception; ours says which flag and what is wrong with it.
Error FromException(const po::error& failure, const std::string& program, const po::options_description& options) {
  const std::string help = fmt::format("{} --help shows all flags", program);
  if (const auto* unknown = dynamic_cast<const po::unknown_option*>(&failure)) {
    std::vector<std::string> known;
    for (const auto& option : options.options()) known.push_back("--" + option->long_name());
    std::string flag = unknown->get_option_name();
    if (!flag.starts_with("-")) flag = "--" + flag;
    return Usage(fmt::format("unknown flag '{}'", flag), DidYouMean(Nearest(flag, known)) + help);
  }
  if (const auto* about = dynamic_cast<const po::error_with_option_name*>(&failure)) {
    const std::string flag = about->get_option_name();
    const auto* invalid = dynamic_cast<const po::validation_error*>(&failure);
    if (dynamic_cast<const po::multiple_occurrences*>(&failure))
      return Usage(fmt::format("'{}' is given twice", flag), help);
    if (dynamic_cast<const po::invalid_command_line_syntax*>(&failure)) {
      const auto& syntax = static_cast<const po::invalid_command_line_syntax&>(failure);
      if (syntax.kind() == po::invalid_syntax::extra_parameter)
        return Usage(fmt::format("'{}' takes no value", flag), help);
      return Usage(fmt::format("'{}' needs a value", flag), help);
    }
    if (invalid) return Usage(fmt::format("bad value of '{}': {}", flag, Said(failure)), help);
  }
  return Usage(Said(failure), help);
}

}  // namespace

std::vector<std::string> Arguments(int argc, char** argv, int from) {
  return argc <= from ? std::vector<std::string>() : std::vector<std::string>(argv + from, argv + argc);
}

Result<Flags> ParseFlags(const std::string& program, const std::vector<std::string>& arguments,
                         const po::options_description& options, const po::positional_options_description& positional) {
  try {
    po::command_line_parser parser(WithDashes(arguments));
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    const po::parsed_options parsed = parser.options(options).positional(positional).style(style).run();
    Flags flags;
    po::store(parsed, flags.values);
    po::notify(flags.values);
    for (const po::option& o : parsed.options) {
      if (o.position_key == -1) flags.order.push_back(o.string_key);
    }
    return flags;
  } catch (const po::too_many_positional_options_error&) {
    return Usage("too many arguments without a flag", fmt::format("{} --help shows what is expected", program));
  } catch (const po::error& failure) {
    return FromException(failure, program, options);
  }
}

std::vector<std::pair<std::string, std::vector<std::string>>> Flags::Texts() const {
  std::vector<std::pair<std::string, std::vector<std::string>>> texts;
  for (const auto& [name, value] : values) {
    const boost::any& any = value.value();
    std::vector<std::string> all = {"on"};
    if (const auto* list = boost::any_cast<std::vector<std::string>>(&any)) {
      all = *list;
    } else if (const auto* text = boost::any_cast<std::string>(&any)) {
      if (!text->empty() || value.defaulted()) all = {*text};  // a flag without a value has an empty one
    } else if (const auto* number = boost::any_cast<int64_t>(&any)) {
      all = {fmt::format("{}", *number)};
    } else if (const auto* natural = boost::any_cast<uint64_t>(&any)) {
      all = {fmt::format("{}", *natural)};
    } else if (const auto* real = boost::any_cast<double>(&any)) {
      all = {fmt::format("{}", *real)};
    }
    texts.emplace_back(name, std::move(all));
  }
  return texts;
}

std::string Describe(const po::options_description& options) {
  std::string text;
  for (const auto& option : options.options()) {
    const std::string letter = option->canonical_display_name(po::command_line_style::allow_dash_for_short);
    std::string flag = letter.size() == 2 && letter.front() == '-' ? letter + ", " : "";
    flag += "--" + option->long_name() + (option->semantic()->max_tokens() ? " VALUE" : "");
    const std::string value = option->semantic()->name();  // "arg (=1)"
    const size_t usual = value.find("(=");
    text += fmt::format("  {:<24} {}", flag, option->description());
    if (usual != std::string::npos && value[usual + 2] != ')')
      text += fmt::format(" (default {}", value.substr(usual + 2));
    text += '\n';
  }
  return text;
}

std::string Nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;  // one beyond the greatest distance that is near
  for (const std::string& candidate : candidates) {
    // Levenshtein's distance, a row at a time.
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t substituted = diagonal + (word[i - 1] != candidate[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
      }
    }
    if (row.back() < least) {
      least = row.back();
      best = candidate;
    }
  }
  return best;
}

Result<int64_t> InRange(std::string_view flag, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return value;
  return Usage(fmt::format("'{}' is {}", flag, value), fmt::format("it lies between {} and {}", least, most));
}

Result<double> Finite(std::string_view flag, double value) {
  if (std::isfinite(value)) return value;
  return Usage(fmt::format("'{}' is {}", flag, value), "give a finite number");
}

Result<std::string> OneOf(std::string_view flag, const std::string& value, const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return value;
  return Usage(fmt::format("'{}' is '{}'", flag, value),
               DidYouMean(Nearest(value, choices)) + fmt::format("it is one of: {}", fmt::join(choices, ", ")));
}

Result<int64_t> Bytes(std::string_view flag, const std::string& value) {
  Result<int64_t> bytes = ParseBytes(value);
  if (bytes.ok()) return bytes;
  Error error = std::move(bytes).error();
  error.what = fmt::format("'{}': {}", flag, error.what);
  return error;
}

Result<std::vector<int64_t>> IntList(std::string_view flag, const std::string& value) {
  std::vector<int64_t> numbers;
  const char *at = value.data(), *const end = value.data() + value.size();
  while (true) {
    int64_t number = 0;
    const auto [next, failed] = std::from_chars(at, end, number);
    if (failed != std::errc() || (next != end && *next != ',')) {
      return Usage(fmt::format("'{}' is '{}', not a list of numbers", flag, value), "write it like 1,2,4");
    }
    numbers.push_back(number);
    if (next == end) return numbers;
    at = next + 1;
  }
}

int Guarded(const std::function<int()>& run) {
  try {
    return run();
  } catch (const std::bad_alloc&) {
    return Fail({Code::kFailed, "no memory is left", "", "see ulimit -v, and what else runs on this machine"});
  } catch (const std::exception& failure) {
    return Fail({Code::kFailed, failure.what(), "", "please report it, with the input"});
  }
}

int Fail(const Error& error) {
  LogError(error);
  return static_cast<int>(error.code);
}

}  // namespace autospc::cli
