// Curves of metrics files as one SVG: `autosp-run plot metrics.jsonl -o loss.svg`. It needs nothing from outside and
// can be read on a light and on a dark ground.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::metrics {

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // step and value, steps rising; finite
  std::vector<std::pair<double, double>> marks;   // drawn as dots: the evaluations
};

// The field `field` of a metrics file by step; where the field is "loss", "eval_loss" as marks. A step that occurs twice
// counts as it was told last. Values that are not finite are left out. kBadInput: unreadable, a line that is none of
// ours (a last one without its end is left out), or no such field anywhere; the hint names the fields that there are.
Result<Curve> ReadCurve(const std::string& path, const std::string& field);

// Names that tell the files apart: the file's name where they differ, else as much of the path in front as it takes.
std::vector<std::string> CurveNames(const std::vector<std::string>& paths);

struct PlotOptions {
  std::string field = "loss";
  bool log_scale = false;  // kBadInput where a value is not above 0
};

// At least one curve with a point. Long curves are thinned to what a pixel column can show: first, least, greatest and last.
Result<std::string> PlotSvg(const std::vector<Curve>& curves, const PlotOptions& options);

// Round numbers from low to high, at most about so many; low < high.
std::vector<double> Ticks(double low, double high, int about);

}  // namespace autospc::metrics
