#include "cli/autosp_run_see.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "runtime/base/files.h"
#include "runtime/metrics/plot.h"

namespace autospc::cli {
namespace {

// "140G", "989T", "1.4e11": a number of FLOP/s above 0.
Result<double> FlopsPerSecond(const std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  const std::string_view unit(end);
  constexpr std::string_view kUnits = "kMGTPE";
  if (unit.size() == 1 && kUnits.find(unit[0]) != std::string_view::npos) {
    value *= std::pow(1000.0, 1 + static_cast<double>(kUnits.find(unit[0])));
  } else if (!unit.empty()) {
    value = NAN;
  }
  if (end == text.c_str() || !std::isfinite(value) || value <= 0) {
    return Error{Code::kUsage, fmt::format("--peak-flops is \"{}\", no number of FLOP/s", text), "", "write it like 140G or 1.4e11"};
  }
  return value;
}

// "2:4"
Status ReadRange(const std::string& text, int64_t* first, int64_t* last) {
  long long a = 0, b = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%lld:%lld%n", &a, &b, &used) != 2 || used != static_cast<int>(text.size()) || a < 1 || b < a) {
    return Error{Code::kUsage, fmt::format("--trace-steps is \"{}\", no range of steps", text), "", "write it like 1:3"};
  }
  if (b - a >= 1000) return Error{Code::kUsage, "--trace-steps: more than 1000 steps", "", "a few are enough to see what a step does"};
  *first = a;
  *last = b;
  return Ok();
}

}  // namespace

void AddSeeFlags(po::options_description* flags) {
  auto add = flags->add_options();
  add("metrics", po::value<std::string>()->default_value(""), "write a JSON line a step into this file; autosp-run plot draws it");
  add("tensorboard", po::value<std::string>()->default_value(""), "write TensorBoard events into this folder");
  add("trace", po::value<std::string>()->default_value(""), "write a time line of all ranks' instructions, for ui.perfetto.dev");
  add("trace-steps", po::value<std::string>()->default_value("1:3"), "which steps of this start it shows");
  add("peak-flops", po::value<std::string>()->default_value("", "measured"), "FLOP/s of a rank at an mfu of 100%, 140G");
  add("check-numerics", "stop at the first instruction that makes a NaN or an infinity, and name it");
}

Status ReadSeeFlags(const Flags& flags, int64_t steps, train::SeeOptions* options) {
  if (steps == 0) {
    for (const char* flag : {"metrics", "tensorboard", "trace", "trace-steps", "peak-flops"}) {
      if (flags.Has(flag)) return Error{Code::kUsage, fmt::format("--{} tells of steps, and none are taken", flag), "", "add --steps N"};
    }
  }
  options->metrics = flags.Get<std::string>("metrics");
  options->tensorboard = flags.Get<std::string>("tensorboard");
  options->trace = flags.Get<std::string>("trace");
  if (flags.Has("trace-steps") && options->trace.empty()) {
    return Error{Code::kUsage, "--trace-steps without --trace", "", "add --trace FILE"};
  }
  RETURN_IF_ERROR(ReadRange(flags.Get<std::string>("trace-steps"), &options->trace_first, &options->trace_last));
  if (flags.Has("peak-flops")) {
    ASSIGN_OR_RETURN(options->peak_flops, FlopsPerSecond(flags.Get<std::string>("peak-flops")));
  }
  options->check_numerics = flags.Has("check-numerics");
  return Ok();
}

Result<int> RunPlot(const std::vector<std::string>& arguments) {
  constexpr char kExample[] = "autosp-run plot metrics.jsonl -o loss.svg";
  po::options_description described("Flags");
  auto add = described.add_options();
  add("files", po::value<std::vector<std::string>>()->composing(), "metrics files (positional), drawn over each other");
  add("output,o", po::value<std::string>(), "the picture to write, an SVG");
  add("field", po::value<std::string>()->default_value("loss"), "what is drawn: loss, grad_norm, lr, tokens_per_second, ...");
  add("log", "a logarithmic axis");
  add("help,h", "this text");
  po::positional_options_description positional;
  positional.add("files", -1);
  ASSIGN_OR_RETURN(const Flags flags, ParseFlags("autosp-run plot", arguments, described, positional));
  if (flags.Has("help")) {
    std::fputs((std::ostringstream() << kExample << "\n\n" << described).str().c_str(), stdout);
    return 0;
  }
  if (!flags.Has("files")) return Error{Code::kUsage, "no metrics file is given", "", kExample};
  if (!flags.Has("output")) return Error{Code::kUsage, "no output is given", "", kExample};
  const auto& files = flags.Get<std::vector<std::string>>("files");
  metrics::PlotOptions options;
  options.field = flags.Get<std::string>("field");
  options.log_scale = flags.Has("log");
  const std::vector<std::string> names = metrics::CurveNames(files);
  std::vector<metrics::Curve> curves;
  for (size_t i = 0; i < files.size(); ++i) {
    ASSIGN_OR_RETURN(metrics::Curve curve, metrics::ReadCurve(files[i], options.field));
    curve.name = names[i];
    curves.push_back(std::move(curve));
  }
  ASSIGN_OR_RETURN(const std::string svg, metrics::PlotSvg(curves, options));
  const std::string& output = flags.Get<std::string>("output");
  RETURN_IF_ERROR(WriteFileAtomically(output, svg, /*durable=*/false));
  fmt::print("wrote {}: {} of {} {}\n", output, options.field, files.size(), files.size() == 1 ? "run" : "runs");
  return 0;
}

}  // namespace autospc::cli
