#include "runtime/metrics/plot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/files.h"
#include "tests/package/temp_folder.h"

namespace autospc::metrics {
namespace {

int Count(const std::string& text, const std::string& what) {
  int n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

std::string PathOf(const TempFolder& folder, const std::string& name, const std::string& text) {
  EXPECT_TRUE(WriteFileAtomically(folder / name, text).ok());
  return folder / name;
}

TEST(PlotTest, ReadsAMetricsFile) {
  const TempFolder folder;
  const auto curve = ReadCurve(PathOf(folder, "m.jsonl",
                                      "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"loss\": 2.5}\n{\"step\": 2, \"eval_loss\": 2.75}\n"
                                      "{\"step\": 2, \"loss\": 2.25}\n{\"step\": 3, \"loss\": null}\n{\"step\": 4, \"lo"),
                               "loss");
  ASSERT_TRUE(curve.ok()) << curve.error().Format();
  EXPECT_EQ(curve->points, (std::vector<std::pair<double, double>>{{1, 3}, {2, 2.25}}));
  EXPECT_EQ(curve->marks, (std::vector<std::pair<double, double>>{{2, 2.75}}));
}

TEST(PlotTest, SaysWhyAFileHasNoCurve) {
  const TempFolder folder;
  const auto what = [&](const std::string& text, const std::string& field) {
    const auto curve = ReadCurve(PathOf(folder, "m.jsonl", text), field);
    EXPECT_FALSE(curve.ok());
    if (curve.ok()) return std::string();
    EXPECT_EQ(curve.error().code, Code::kBadInput);
    return curve.error().what + "|" + curve.error().hint;
  };
  EXPECT_EQ(what("{\"step\": 1, \"loss\": 3, \"lr\": 1}\n", "los"), "no step has a \"los\"|its fields are loss, lr");
  EXPECT_EQ(what("{\"step\": 1, \"loss\": null}\n", "loss"), "no step has a finite \"loss\"|its fields are loss");
  EXPECT_EQ(what("{\"step\": 1, \"loss\": 3}\nhello\n", "loss").substr(0, 6), "line 2");
  EXPECT_EQ(what("", "loss"), "the file holds no steps|has the run taken a step yet?");
}

TEST(PlotTest, TicksAreRoundAndFew) {
  EXPECT_EQ(Ticks(0, 200, 9), (std::vector<double>{0, 50, 100, 150, 200}));
  const std::vector<double> small = Ticks(2.31, 2.98, 7);
  EXPECT_EQ(small.size(), 6u);
  EXPECT_NEAR(small[0], 2.4, 1e-12);
  for (const double high : {1e-9, 0.37, 1.0, 9.99, 1e7}) {
    const std::vector<double> ticks = Ticks(0, high, 8);
    EXPECT_GE(ticks.size(), 3u) << high;
    EXPECT_LE(ticks.size(), 9u) << high;
  }
}

TEST(PlotTest, OverlaysSeveralFiles) {
  Curve a{"a.jsonl", {{1, 3}, {2, 2}, {3, 1}}, {{2, 2.5}}}, b{"b & <c>", {{1, 4}, {3, 2}}, {}};
  const auto svg = PlotSvg({a, b}, {});
  ASSERT_TRUE(svg.ok()) << svg.error().Format();
  EXPECT_EQ(Count(*svg, "stroke-linejoin"), 2);
  EXPECT_EQ(Count(*svg, "a.jsonl"), 1);
  EXPECT_NE(svg->find("b &amp; &lt;c&gt;"), std::string::npos);
  EXPECT_NE(svg->find("dots: eval_loss"), std::string::npos);
  EXPECT_NE(svg->find("eval_loss 2.5 at step 2"), std::string::npos);
  EXPECT_EQ(Count(*svg, "<svg"), 1);
  EXPECT_EQ(svg->find("http://", svg->find("<title>")), std::string::npos);  // nothing from outside
}

TEST(PlotTest, AMillionStepsAreASmallPicture) {
  Curve curve{"long", {}, {}};
  for (int i = 1; i <= 1000000; ++i) curve.points.emplace_back(i, i == 654321 ? 50.0 : 2 + std::sin(i * 0.01));
  const auto svg = PlotSvg({curve}, {});
  ASSERT_TRUE(svg.ok());
  EXPECT_LT(svg->size(), 100u << 10);
  // The one peak is still there: the path reaches the height at which nothing else is.
  double highest = 1e9;
  const size_t path = svg->rfind("<path d=\"");
  for (size_t at = path; (at = svg->find(' ', at + 1)) != std::string::npos && at < svg->find('"', path + 9);)
    highest = std::min(highest, std::strtod(svg->c_str() + at, nullptr));
  EXPECT_LT(highest, 110);
}

TEST(PlotTest, FlatSingleAndLogarithmic) {
  for (const auto& points : {std::vector<std::pair<double, double>>{{5, 2}}, {{1, 2}, {2, 2}}, {{1, 0}, {2, 0}}, {{1, -3}, {2, 4}}}) {
    const auto svg = PlotSvg({{"c", points, {}}}, {});
    ASSERT_TRUE(svg.ok());
    EXPECT_EQ(svg->find("nan"), std::string::npos) << *svg;
    EXPECT_EQ(svg->find("inf"), std::string::npos);
  }
  const auto log = PlotSvg({{"c", {{1, 1000}, {2, 1}}, {}}}, {"grad_norm", true});
  ASSERT_TRUE(log.ok());
  for (const char* label : {">1<", ">10<", ">100<", ">1000<", "grad_norm by step"}) EXPECT_NE(log->find(label), std::string::npos) << label;
  const auto bad = PlotSvg({{"c", {{1, 1}, {2, 0}}, {}}}, {"lr", true});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().what.find("\"lr\" is 0 at step 2"), std::string::npos);
}

TEST(PlotTest, NamesTellFilesApart) {
  EXPECT_EQ(CurveNames({"a/x.jsonl", "b/y.jsonl"}), (std::vector<std::string>{"x.jsonl", "y.jsonl"}));
  EXPECT_EQ(CurveNames({"runs/a/m.jsonl", "runs/b/m.jsonl"}), (std::vector<std::string>{"a/m.jsonl", "b/m.jsonl"}));
  EXPECT_EQ(CurveNames({"m.jsonl", "m.jsonl"}).size(), 2u);
}

}  // namespace
}  // namespace autospc::metrics
