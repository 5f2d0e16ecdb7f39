#include "compiler/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "compiler/report_data.h"
#include "compiler/report_html.h"
#include "compiler/report_json.h"
#include "tests/package/sample.h"

namespace autospc {
namespace {

using nlohmann::json;
using program::StorageKind;

constexpr char kHostile[] = "</script><img src=x onerror=alert(1)>'\"&{{data}}<!--end arena-->\xff\x01";

size_t Times(const std::string& text, std::string_view part) {
  size_t times = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++times;
  return times;
}

std::string Between(const std::string& text, const std::string& open, const std::string& close) {
  const size_t from = text.find(open);
  if (from == std::string::npos) return "";
  const size_t start = from + open.size();
  return text.substr(start, text.find(close, start) - start);
}

json DataOf(const std::string& page) { return json::parse(Between(page, "id=\"data\">", "</script>")); }

std::string Report(const Compiled& compiled) {
  auto page = HtmlReport(compiled);
  EXPECT_TRUE(page.ok()) << page.error().Format();
  return page.ok() ? *page : "";
}

Compiled Sample() {
  Compiled compiled;
  compiled.program = SampleProgram();
  return compiled;
}

// Instructions that each hold a buffer of their number's bytes until the next, in a kind of turn.
program::ProgramT Long(int instructions) {
  program::ProgramT p = SampleProgram();
  p.storages.clear();
  p.tensors.clear();
  p.collectives.clear();
  p.instructions.clear();
  for (int i = 0; i < instructions; ++i) {
    p.instructions.push_back(std::make_unique<program::InstructionT>());
    p.instructions.back()->op = "aten.op" + std::to_string(i % 50) + ".default";
    p.instructions.back()->source = i % 2;
    p.instructions.back()->phase = i * 3 / instructions;
    auto s = std::make_unique<program::StorageT>();
    s->kind = i % 2 ? StorageKind::Activation : StorageKind::Gradient;
    s->bytes = int64_t{64} * (1 + i % 1000);
    s->arena_offset = int64_t{64} * (i % 2) * 1000;
    s->first = i;
    s->last = std::min(i + 1, instructions - 1);
    s->name = "value_" + std::to_string(i);
    p.storages.push_back(std::move(s));
  }
  p.arena_bytes = 64 * 2000;
  return p;
}

PlanPoint Point(std::string label, int64_t peak, double seconds, bool chosen = false) {
  PlanPoint point;
  point.label = std::move(label);
  point.peak_bytes = point.arena_bytes = peak;
  point.seconds = seconds;
  point.chosen = chosen;
  return point;
}

// The sample: 184 bytes kept; at instruction 1 an activation, a gradient and a workspace of 100 bytes.
TEST(ReportData, MemoryOfTheSample) {
  const report::Memory m = report::MeasureMemory(SampleProgram(), 100, 10);
  EXPECT_EQ(m.persistent_bytes, 184);
  EXPECT_EQ(m.live_bytes, 256);
  EXPECT_EQ(m.peak_instruction, 1);
  EXPECT_EQ(m.peak_bytes(), 184 + 256);
  EXPECT_EQ(m.persistent, (report::GroupBytes{32, 32, 120, 0, 0, 0, 0}));
  EXPECT_EQ(m.at_peak, (report::GroupBytes{32, 32, 120, 64, 64, 128, 0}));
  ASSERT_EQ(m.samples.size(), 3u);
  EXPECT_EQ(m.samples[0].bytes, (report::GroupBytes{0, 0, 0, 0, 64, 0, 0}));
  EXPECT_EQ(m.samples[2].bytes, (report::GroupBytes{0, 0, 0, 64, 0, 0, 0}));
  EXPECT_EQ(m.largest, (std::vector<int>{8, 6, 7}));
  EXPECT_EQ(report::MeasureMemory(SampleProgram(), 100, 1).largest, (std::vector<int>{8}));
}

TEST(ReportData, FewerSamplesKeepThePeak) {
  const program::ProgramT p = Long(10007);
  const report::Memory all = report::MeasureMemory(p, 1 << 20, 10), few = report::MeasureMemory(p, 64, 10);
  EXPECT_EQ(all.samples.size(), 10007u);
  ASSERT_EQ(few.samples.size(), 64u);
  EXPECT_EQ(few.live_bytes, all.live_bytes);
  EXPECT_EQ(few.peak_instruction, all.peak_instruction);
  for (size_t k = 0; k < few.samples.size(); ++k) {
    const int end = k + 1 < few.samples.size() ? few.samples[k + 1].begin : 10007;
    EXPECT_LE(few.samples[k].begin, few.samples[k].instruction);
    EXPECT_LT(few.samples[k].instruction, end);
  }
}

TEST(ReportData, TheMapKeepsWhatFillsTheMost) {
  const program::ProgramT p = SampleProgram();
  EXPECT_EQ(report::DrawArena(p, 10).storages, (std::vector<int>{6, 7, 8}));
  const report::ArenaMap two = report::DrawArena(p, 2);  // 32 x 2, 32 x 2 and 100 x 1 bytes x instructions
  EXPECT_EQ(two.storages, (std::vector<int>{6, 8}));
  EXPECT_EQ(two.left_out, 1);
  EXPECT_EQ(two.largest_left_out, 32);
}

TEST(ReportData, LayersAreOne) {
  EXPECT_EQ(report::WithoutLayer("forward of model.layers.12.self_attn"), "forward of model.layers.*.self_attn");
  EXPECT_EQ(report::WithoutLayer("backward of blocks.0"), "backward of blocks.*");
  EXPECT_EQ(report::WithoutLayer("h.3 and h.4"), "h.* and h.*");
  EXPECT_EQ(report::WithoutLayer("conv2d.3x3 12 1.5"), "conv2d.3x3 12 1.5");
  EXPECT_EQ(report::WithoutLayer("blocks.0.1.2"), "blocks.*.*.*");
  EXPECT_EQ(report::WithoutLayer("12"), "12");
  EXPECT_EQ(report::WithoutLayer(""), "");
}

TEST(ReportData, TrafficByOpAndReason) {
  program::ProgramT p = SampleProgram();
  p.collectives.clear();
  for (int layer = 0; layer < 3; ++layer) {
    for (const char* op : {"autosp.all_gather", "autosp.all_to_all"}) {
      p.collectives.push_back(std::make_unique<program::CollectiveT>());
      p.collectives.back()->op = op;
      p.collectives.back()->bytes = op[11] == 'g' ? 10 : 100 + layer;
      p.collectives.back()->why = "forward of h." + std::to_string(layer);
    }
  }
  const std::vector<report::Traffic> traffic = report::SumTraffic(p);
  ASSERT_EQ(traffic.size(), 2u);
  EXPECT_EQ(traffic[0].op, "autosp.all_to_all");
  EXPECT_EQ(traffic[0].why, "forward of h.*");
  EXPECT_EQ(traffic[0].count, 3);
  EXPECT_EQ(traffic[0].bytes, 303);
  EXPECT_EQ(traffic[0].least, 100);
  EXPECT_EQ(traffic[0].most, 102);
  EXPECT_EQ(traffic[1].bytes, 30);
}

TEST(ReportData, NotesOfLayersAreOne) {
  program::ProgramT p = SampleProgram();
  p.notes[0]->why = "no partition rule in h.0";
  p.notes.push_back(std::make_unique<program::NoteT>(*p.notes[0]));
  p.notes[1]->why = "no partition rule in h.1";
  p.notes.push_back(std::make_unique<program::NoteT>(*p.notes[0]));
  p.notes[2]->source = "other.py:1";
  p.notes[2]->bytes = 1 << 20;
  const std::vector<report::Gathered> notes = report::SumNotes(p);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0].source, "other.py:1");
  EXPECT_EQ(notes[1].count, 2);
  EXPECT_EQ(notes[1].bytes, 2 * 4096);
}

TEST(ReportData, FrontierIsWhatNothingBeats) {
  const std::vector<PlanPoint> curve = {Point("none", 100, 1), Point("slow", 100, 2), Point("half", 50, 3),
                                        Point("same", 50, 3),  Point("worse", 60, 3), Point("least", 10, 9)};
  EXPECT_EQ(report::Frontier(curve), (std::vector<bool>{true, false, true, false, false, true}));
  EXPECT_TRUE(report::Frontier({}).empty());
}

TEST(ReportHtml, Escapes) {
  EXPECT_EQ(report::Escape("<a href='x'>&\"b\n\x01"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;b \xEF\xBF\xBD");
  EXPECT_EQ(report::Escape("d\xC3\xA9j\xC3\xA0 \xff"), "d\xC3\xA9j\xC3\xA0 \xEF\xBF\xBD");
  EXPECT_EQ(report::Breakable("a.b_<c"), "a.<wbr>b_<wbr>&lt;c");
  EXPECT_EQ(report::ScriptJson(json{{"a", "</script>&<!--"}}), R"({"a":"\u003c/script\u003e\u0026\u003c!--"})");
  EXPECT_EQ(json::parse(report::ScriptJson("</script>&")), "</script>&");
}

TEST(ReportHtml, PartsAreNotSearchedForParts) {
  EXPECT_EQ(report::FillPage("<{{a}}-{{b}}>", {{"a", "{{b}}"}, {"b", "2"}}), "<{{b}}-2>");
  EXPECT_DEATH(report::FillPage("{{c}}", {{"a", "1"}}), "unknown part: \\{\\{c\\}\\}");
  EXPECT_DEATH(report::FillPage("{{a", {{"a", "1"}}), "unknown part");
}

// openssl dgst -sha256 -binary | base64, of nothing, "a", "ab" and "abc".
TEST(ReportHtml, PolicyHashes) {
  EXPECT_EQ(report::PolicyHash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
  EXPECT_EQ(report::PolicyHash("abc"), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

TEST(ReportHtml, NumbersForPeople) {
  EXPECT_EQ(report::Bytes(1536), "1.50\u00a0KiB");
  EXPECT_EQ(report::Count(0), "0");
  EXPECT_EQ(report::Count(999), "999");
  EXPECT_EQ(report::Count(1234567), "1,234,567");
  EXPECT_EQ(report::Count(-1234), "-1,234");
  EXPECT_EQ(report::Count(-123), "-123");
  EXPECT_EQ(report::Seconds(0), "0\u00a0s");
  EXPECT_EQ(report::Seconds(1.234), "1.23\u00a0s");
  EXPECT_EQ(report::Seconds(0.0456), "45.6\u00a0ms");
  EXPECT_EQ(report::Seconds(12e-6), "12.0\u00a0µs");
  EXPECT_EQ(report::Seconds(7591.4), "7,591\u00a0s");
}

TEST(Report, SaysWhatTheProgramIs) {
  Compiled compiled = Sample();
  compiled.program.options = R"({"memory_budget": 1024, "zero": -1, "mesh": "sp=2", "strict": true})";
  const std::string page = Report(compiled);
  for (const char* part :
       {"<h1>sample</h1>",
        "One training step over 2\u00a0sequences of 4 tokens on 2\u00a0ranks. A rank holds at most <b>440\u00a0B</b>",
        "584\u00a0B under the budget of 1.00\u00a0KiB", "43.0\u00a0% used", "4.5\u00a0GFLOP",
        "Most is alive at instruction 1 of 3", "<code>autosp.all_reduce</code>, <code>model.py:12</code>",
        "<code>mul.<wbr>workspace</code>", "gradient of block.<wbr>w", "no partition rule",
        "<code>model.<wbr>py:13</code>", "<dt>Mesh</dt><dd>sp=2</dd>", "<dt>ZeRO</dt><dd>auto</dd>",
        "<dt>Strict</dt><dd>yes</dd>", "All 3 buffers of the step are drawn", "Made by autospc test"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("{{"), std::string::npos);
  EXPECT_EQ(page, Report(compiled));
}

TEST(Report, OverTheBudgetIsSaid) {
  Compiled compiled = Sample();
  compiled.program.options = R"({"memory_budget": 340})";
  EXPECT_NE(Report(compiled).find("<b>100\u00a0B over</b> the budget of 340\u00a0B"), std::string::npos);
}

TEST(Report, DataForTheScript) {
  Compiled compiled = Sample();
  compiled.program.options = R"({"memory_budget": 1024})";
  const json data = DataOf(Report(compiled));
  EXPECT_EQ(data["instructions"], 3);
  EXPECT_EQ(data["persistent"], (json{32, 32, 120, 0, 0, 0, 0}));
  EXPECT_EQ(data["arena"], 256);
  EXPECT_EQ(data["budget"], 1024);
  EXPECT_EQ(data["peak"], 1);
  EXPECT_EQ(data["samples"]["begin"], (json{0, 1, 1}));
  EXPECT_EQ(data["samples"]["bytes"][3], (json{0, 1, 0}));
  EXPECT_EQ(data["samples"]["bytes"][4], (json{1, 0, -1}));
  EXPECT_EQ(data["samples"]["bytes"][6], json::array());
  EXPECT_EQ(data["strings"][data["samples"]["op"][1].get<int>()], "autosp.all_reduce");
  EXPECT_EQ(data["strings"][data["samples"]["source"][1].get<int>()], "model.py:12");
  EXPECT_EQ(data["map"]["name"], (json{"y", "dw", "mul.workspace"}));
  EXPECT_EQ(data["map"]["group"], (json{4, 3, 5}));
  EXPECT_EQ(data["map"]["bytes"], (json{32, 32, 100}));
  EXPECT_EQ(data["map"]["offset"], (json{0, 1, 2}));
  EXPECT_EQ(data["map"]["first"], (json{0, 1, 0}));
  EXPECT_EQ(data["map"]["length"], (json{2, 2, 1}));
}

// Whatever the model's texts hold, the page has its own two scripts, no image and no handler, and shows the text.
TEST(Report, HostileTextStaysText) {
  Compiled compiled = Sample();
  program::ProgramT& p = compiled.program;
  p.name = p.strategy = p.optimizer = p.device = p.compiler = kHostile;
  p.options = json{{std::string(kHostile).substr(0, 40), std::string(kHostile).substr(0, 40)}}.dump();
  for (auto& s : p.storages) s->name = s->source = kHostile;
  for (auto& i : p.instructions) i->op = kHostile;
  for (auto& s : p.sources) s = kHostile;
  for (auto& c : p.collectives) c->op = c->why = kHostile;
  for (auto& n : p.notes) n->what = n->why = n->source = kHostile;
  compiled.curve = {Point(kHostile, 400, 2), Point(std::string("b") + kHostile, 300, 3, true)};
  const std::string page = Report(compiled), usual = Report(Sample());
  EXPECT_EQ(Times(page, "<script"), 2u);
  EXPECT_EQ(Times(page, "</script"), 2u);
  EXPECT_EQ(Times(page, "<img"), 0u);
  EXPECT_EQ(Times(page, "<!--"), 0u);
  EXPECT_EQ(page.find('\xff'), std::string::npos);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
  EXPECT_EQ(Times(page, "<section"), Times(usual, "<section") + 1);  // the curve's
  EXPECT_NE(page.find("<h1>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#39;&quot;&amp;{{data}}"),
            std::string::npos);
  const std::string shown = std::string(kHostile).substr(0, sizeof kHostile - 3) + "\xEF\xBF\xBD\x01";
  EXPECT_EQ(DataOf(page)["map"]["name"][0], shown);
  EXPECT_EQ(DataOf(page)["curve"][0]["label"], shown);
}

TEST(Report, NeedsNothingFromOutside) {
  const std::string page = Report(Sample());
  for (const char* outside : {"http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "innerHTML", "eval("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  const std::string script = Between(page, "<script>", "</script>");
  EXPECT_GT(script.size(), 1000u);
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(page.find("script-src '" + report::PolicyHash(script) + "'\""), std::string::npos);
}

TEST(Report, TheCurveNeedsTwoPoints) {
  Compiled compiled = Sample();
  const std::string title = "<h2 id=\"h-curve\">", place = "id=\"curve\"";
  EXPECT_EQ(Times(Report(compiled), title), 0u);
  compiled.curve = {Point("none", 400, 2, true)};
  EXPECT_EQ(Times(Report(compiled), title), 0u);
  EXPECT_EQ(Times(Report(compiled), place), 0u);
  EXPECT_NE(Report(compiled).find("nothing runs again"), std::string::npos);
  compiled.curve = {Point("none", 500, 2), Point("price 0.25", 441, 2.5, true), Point("layers", 450, 3)};
  compiled.curve[1].recompute_seconds = 0.5;
  compiled.program.options = R"({"memory_budget": 445})";
  const std::string page = Report(compiled);
  EXPECT_EQ(Times(page, title), 1u);
  EXPECT_EQ(Times(page, place), 1u);
  EXPECT_EQ(Times(page, "over the budget</td>"), 2u);
  EXPECT_EQ(Times(page, "<b>chosen</b>"), 1u);
  EXPECT_NE(page.find("<dt>Plan</dt><dd>price 0.<wbr>25</dd>"), std::string::npos);
  EXPECT_NE(page.find("20.0\u00a0% of it runs again"), std::string::npos);
  const json curve = DataOf(page)["curve"];
  ASSERT_EQ(curve.size(), 3u);
  EXPECT_EQ(curve[1], (json{{"label", "price 0.25"},
                            {"peak", 440},
                            {"seconds", 2.5},
                            {"again", 0.5},
                            {"chosen", true},
                            {"rule", false},
                            {"best", true}}));
  EXPECT_EQ(curve[0]["rule"], true);
  EXPECT_EQ(curve[2]["best"], false);
}

TEST(Report, AProgramWithoutArena) {
  Compiled compiled = Sample();
  program::ProgramT& p = compiled.program;
  p.notes.clear();
  p.collectives.clear();
  p.instructions.clear();
  p.storages.resize(6);
  p.arena_bytes = 0;
  const std::string page = Report(compiled);
  for (const char* part : {"The arena is empty", "Nothing was gathered", "None: the ranks do not talk"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  for (const char* part : {"id=\"arena\"", "id=\"memory\"", "id=\"curve\"", "<!--"})
    EXPECT_EQ(page.find(part), std::string::npos) << part;
}

TEST(Report, ItsSizeIsBounded) {
  Compiled compiled;
  compiled.program = Long(200000);
  const std::string page = Report(compiled);
  EXPECT_LT(page.size(), 4u << 20);
  EXPECT_NE(page.find("The 40,000 buffers that fill the most are drawn; 160,000 of at most"), std::string::npos);
  const json data = DataOf(page);
  EXPECT_EQ(data["samples"]["op"].size(), report::kMaxSamples);
  EXPECT_EQ(data["map"]["name"].size(), report::kMaxRectangles);
  EXPECT_EQ(data["peak"], report::MeasureMemory(compiled.program, 1 << 20, 1).peak_instruction);
}

TEST(Report, OptionsThatAreNoJson) {
  Compiled compiled = Sample();
  for (const char* options : {"{", "[]"}) {
    compiled.program.options = options;
    const auto page = HtmlReport(compiled);
    ASSERT_FALSE(page.ok());
    EXPECT_EQ(page.error().code, Code::kBadInput);
  }
}

}  // namespace
}  // namespace autospc
