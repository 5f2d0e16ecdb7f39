#include "runtime/metrics/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/metrics/step_metrics.h"

namespace autospc::metrics {
namespace {

using Point = std::pair<double, double>;

constexpr double kWidth = 860, kHeight = 480, kLeft = 70, kRight = 22, kBottom = 54;
constexpr double kLegendRow = 20;
// On white and on near-black alike a contrast of at least 3.
constexpr std::array<const char*, 8> kColours = {"#2f81f7", "#db6d28", "#2da44e", "#a371f7",
                                                 "#e5534b", "#1b9aaa", "#b8860b", "#8b949e"};
constexpr char kText[] = "#7d8590", kGrid[] = "#7d859055";

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// A tick's number, with as many digits as tell it from the next one.
std::string Label(double value, double step) {
  if (std::abs(value) >= 1e5) return ShortNumber(value);
  const int digits = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 12);
  if (value != 0 && std::abs(value) < 1e-3) return fmt::format("{:g}", value);
  return fmt::format("{:.{}f}", value == 0 ? 0.0 : value, digits);
}

// An axis: from values to pixels.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;

  double operator()(double v) const {
    const double a = log ? std::log10(low) : low, b = log ? std::log10(high) : high, x = log ? std::log10(v) : v;
    return from + (x - a) / (b - a) * (to - from);
  }
};

// The points a line needs at this width: of those in one pixel column the first, least, greatest and last.
std::vector<Point> Thinned(const std::vector<Point>& points, const Scale& x) {
  std::vector<Point> kept;
  for (size_t i = 0; i < points.size();) {
    size_t end = i;
    const double column = std::floor(x(points[i].first));
    while (end < points.size() && std::floor(x(points[end].first)) == column) ++end;
    size_t least = i, greatest = i;
    for (size_t k = i; k < end; ++k) {
      if (points[k].second < points[least].second) least = k;
      if (points[k].second > points[greatest].second) greatest = k;
    }
    std::array<size_t, 4> wanted = {i, std::min(least, greatest), std::max(least, greatest), end - 1};
    for (size_t k = 0; k < wanted.size(); ++k) {
      if (k == 0 || wanted[k] != wanted[k - 1]) kept.push_back(points[wanted[k]]);
    }
    i = end;
  }
  return kept;
}

// Powers of ten, and their doubles and fivefolds where there are few.
std::vector<double> LogTicks(double low, double high) {
  std::vector<double> ticks;
  for (const std::vector<int>& factors : {std::vector<int>{1}, {1, 2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}) {
    ticks.clear();
    for (double power = std::floor(std::log10(low)); power <= std::ceil(std::log10(high)); ++power) {
      for (const int factor : factors) {
        const double tick = factor * std::pow(10.0, power);
        if (tick >= low && tick <= high) ticks.push_back(tick);
      }
    }
    if (ticks.size() >= 3) break;
  }
  return ticks;
}

class Svg {
 public:
  void Text(double x, double y, std::string_view text, const char* anchor = "middle", int size = 12) {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\" fill=\"{}\">{}</text>\n", x, y,
                        anchor, size, kText, Escaped(text));
  }
  void Line(double x1, double y1, double x2, double y2) {
    out_ += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2, kGrid);
  }
  void Raw(const std::string& text) { out_ += text; }
  std::string Finish(const std::string& title, double height) const {
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:g} {:g}\" role=\"img\" "
        "font-family=\"system-ui, sans-serif\">\n<title>{}</title>\n{}</svg>\n",
        kWidth, height, Escaped(title), out_);
  }

 private:
  std::string out_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void Add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

// What tells curve i apart: its colour, and dashes from the ninth on.
std::string Stroke(size_t i) {
  const size_t round = i / kColours.size();
  std::string stroke = fmt::format("stroke=\"{}\"", kColours[i % kColours.size()]);
  if (round > 0) stroke += fmt::format(" stroke-dasharray=\"{} 4\"", 2 + 4 * round);
  return stroke;
}

}  // namespace

std::vector<double> Ticks(double low, double high, int about) {
  double step = std::pow(10.0, std::floor(std::log10((high - low) / about)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    if ((high - low) / (step * factor) <= about) {
      step *= factor;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) ticks.push_back(i * step);
  return ticks;
}

Result<std::string> PlotSvg(const std::vector<Curve>& curves, const PlotOptions& options) {
  Range steps, values;
  for (const Curve& curve : curves) {
    for (const auto* points : {&curve.points, &curve.marks}) {
      for (const auto& [step, value] : *points) {
        if (options.log_scale && !(value > 0)) {
          return Error{Code::kBadInput, fmt::format("\"{}\" is {} at step {}: it has no logarithm", options.field, value, step),
                       curve.name, "plot it without --log"};
        }
        steps.Add(step);
        values.Add(value);
      }
    }
  }
  if (!(steps.low <= steps.high)) return Error{Code::kBadInput, "there is nothing to plot", "", ""};
  if (steps.low == steps.high) steps = {steps.low - 1, steps.high + 1};
  if (options.log_scale) {
    const double room = std::pow(values.high / values.low, 0.04) * (values.high == values.low ? 1.1 : 1);
    values = {values.low / room, values.high * room};
  } else {
    const double span = values.high - values.low;
    const double room = span > 0 ? 0.05 * span : std::max(1e-6, 0.05 * std::abs(values.high));
    const bool above = values.low >= 0;
    values = {values.low - room, values.high + room};
    if (above && values.low < 0.15 * values.high) values.low = 0;
  }
  // The legend's rows are as many as the names need; evaluations have an entry of their own.
  const auto entry_width = [](const std::string& name) { return 34 + 6.7 * static_cast<double>(name.size()) + 18; };
  const bool any_marks = std::any_of(curves.begin(), curves.end(), [](const Curve& c) { return !c.marks.empty(); });
  std::vector<std::string> entries;
  for (const Curve& curve : curves) entries.push_back(curve.name);
  if (any_marks) entries.emplace_back("dots: eval_loss");
  std::vector<Point> places;
  double x = kLeft, y = 46;
  for (const std::string& entry : entries) {
    if (x > kLeft && x + entry_width(entry) > kWidth - kRight) {
      x = kLeft;
      y += kLegendRow;
    }
    places.emplace_back(x, y);
    x += entry_width(entry);
  }
  const double top = y + 22, bottom = top + kHeight - 68 - kBottom, height = bottom + kBottom;
  const Scale to_x{steps.low, steps.high, kLeft, kWidth - kRight};
  const Scale to_y{values.low, values.high, bottom, top, options.log_scale};

  Svg svg;
  const std::string title = options.field + " by step";
  svg.Text(kLeft, 24, title, "start", 15);
  const std::vector<double> y_ticks = options.log_scale ? LogTicks(values.low, values.high) : Ticks(values.low, values.high, 7);
  for (const double tick : y_ticks) {
    svg.Line(kLeft, to_y(tick), kWidth - kRight, to_y(tick));
    const double step = options.log_scale || y_ticks.size() < 2 ? std::pow(10.0, std::floor(std::log10(std::abs(tick) + 1e-300)))
                                                                : y_ticks[1] - y_ticks[0];
    svg.Text(kLeft - 9, to_y(tick) + 4, Label(tick, step), "end");
  }
  const std::vector<double> x_ticks = Ticks(steps.low, steps.high, 9);
  for (const double tick : x_ticks) {
    if (tick != std::floor(tick)) continue;
    svg.Line(to_x(tick), bottom, to_x(tick), bottom + 5);
    svg.Text(to_x(tick), bottom + 20, Label(tick, 1));
  }
  svg.Text((kLeft + kWidth - kRight) / 2, height - 10, "step");
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto [at, row] = places[i];
    if (i < curves.size()) {
      svg.Raw(fmt::format("<path d=\"M{:.1f} {:.1f}h22\" {} stroke-width=\"2\" fill=\"none\"/>\n", at, row - 4, Stroke(i)));
    } else {
      svg.Raw(fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"none\" stroke=\"{}\"/>\n", at + 11, row - 4, kText));
    }
    svg.Text(at + 28, row, entries[i], "start");
  }
  for (size_t i = 0; i < curves.size(); ++i) {
    std::string path;
    for (const auto& [step, value] : Thinned(curves[i].points, to_x)) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", to_x(step), to_y(value));
    }
    const char* colour = kColours[i % kColours.size()];
    if (curves[i].points.size() == 1) {
      svg.Raw(fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n", to_x(curves[i].points[0].first),
                          to_y(curves[i].points[0].second), colour));
    } else if (!path.empty()) {
      svg.Raw(fmt::format("<path d=\"{}\" {} stroke-width=\"1.6\" stroke-linejoin=\"round\" fill=\"none\"/>\n", path, Stroke(i)));
    }
  }
  for (size_t i = 0; i < curves.size(); ++i) {  // over all lines
    for (const auto& [step, value] : curves[i].marks) {
      svg.Raw(fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\">"
                          "<title>eval_loss {:g} at step {:.0f}</title></circle>\n",
                          to_x(step), to_y(value), kColours[i % kColours.size()], value, step));
    }
  }
  return svg.Finish(title, height);
}

}  // namespace autospc::metrics
