// Flags as all our programs read them: dash and underscore spellings both work, an unknown flag or value names the
// nearest known one, and every mistake is an Error of kUsage instead of an exception.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/positional_options.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <boost/program_options/variables_map.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::cli {

namespace po = boost::program_options;

struct Flags {
  po::variables_map values;
  std::vector<std::string> order;  // the flags given, without dashes, in the order given; positionals are left out

  bool Has(const std::string& flag) const { return values.count(flag) != 0 && !values[flag].defaulted(); }
  // The value of a flag that has a default or was given.
  template <typename T>
  const T& Get(const std::string& flag) const {
    return values[flag].as<T>();
  }
  // Every flag that was given or has a default, sorted by name, with its values as text; "on" for a flag that takes none.
  std::vector<std::pair<std::string, std::vector<std::string>>> Texts() const;
};

// Parses what follows the program's (or the subcommand's) name. `program` stands in hints: "autospc compile".
// Abbreviations are not accepted. Positional arguments go where `positional` says; without it they are a mistake.
Result<Flags> ParseFlags(const std::string& program, const std::vector<std::string>& arguments,
                         const po::options_description& options,
                         const po::positional_options_description& positional = {});
std::vector<std::string> Arguments(int argc, char** argv, int from = 1);

// A line a flag for --help: "  -o, --output VALUE     where it goes (default -)".
std::string Describe(const po::options_description& options);

// The candidate with the least edit distance to `word`, if that is small against its length; else "".
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

// Values that a type alone does not check; `flag` with its dashes. All kUsage.
Result<int64_t> InRange(std::string_view flag, int64_t value, int64_t least, int64_t most);
Result<double> Finite(std::string_view flag, double value);  // neither infinite nor NaN
Result<std::string> OneOf(std::string_view flag, const std::string& value, const std::vector<std::string>& choices);
Result<int64_t> Bytes(std::string_view flag, const std::string& value);                 // "80GiB"
Result<std::vector<int64_t>> IntList(std::string_view flag, const std::string& value);  // "1,2,4"

// main's whole work: what nobody has met before (no memory, an exception of a library) ends as an error too, exit 1.
int Guarded(const std::function<int()>& run);

// Prints the error to stderr and returns its exit code: `return Fail(error);` ends a main.
int Fail(const Error& error);

}  // namespace autospc::cli
