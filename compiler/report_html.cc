#include "compiler/report_html.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "runtime/base/bytes.h"
#include "runtime/base/json_text.h"
#include "runtime/base/sha256.h"

namespace autospc::report {
namespace {

// What is no UTF-8 as U+FFFD: a round through JSON, whose writer does just that.
std::string ValidUtf8(std::string_view text) {
  return nlohmann::json::parse(JsonText(nlohmann::json(text))).get<std::string>();
}

std::string Base64(std::string_view bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = word << 8 | (k < n ? static_cast<uint8_t>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= n ? kDigits[word >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

void ReplaceAll(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size())
    text->replace(at, from.size(), to);
}

std::string Render(std::string_view text, bool breakable) {
  std::string out;
  for (const char c : ValidUtf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '\t':
      case '\n':
        out += ' ';
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += "\xEF\xBF\xBD";
        } else {
          out += c;
        }
    }
    if (breakable && (c == '.' || c == '_' || c == '/')) out += "<wbr>";
  }
  return out;
}

}  // namespace

std::string Escape(std::string_view text) { return Render(text, false); }
std::string Breakable(std::string_view text) { return Render(text, true); }

std::string ScriptJson(const nlohmann::json& json) {
  std::string text = JsonText(json);
  ReplaceAll(&text, "<", "\\u003c");
  ReplaceAll(&text, ">", "\\u003e");
  ReplaceAll(&text, "&", "\\u0026");
  return text;
}

std::string FillPage(std::string_view page, const std::map<std::string, std::string, std::less<>>& parts) {
  std::string out;
  while (true) {
    const size_t open = page.find("{{");
    out += page.substr(0, open);
    if (open == std::string_view::npos) return out;
    const size_t close = page.find("}}", open);
    const auto part =
        close == std::string_view::npos ? parts.end() : parts.find(page.substr(open + 2, close - open - 2));
    if (part == parts.end()) {
      fmt::print(stderr, "report: the page has an unknown part: {}\n", page.substr(open, 40));
      std::abort();
    }
    out += part->second;
    page.remove_prefix(close + 2);
  }
}

std::string PolicyHash(std::string_view script) {
  const std::string hex = Sha256Hex(script);
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return "sha256-" + Base64(bytes);
}

std::string Bytes(int64_t bytes) {
  std::string text = FormatBytes(bytes);
  ReplaceAll(&text, " ", "\u00a0");
  return text;
}

std::string Seconds(double seconds) {
  static constexpr std::array<std::pair<double, const char*>, 4> kUnits = {
      {{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}, {1e-9, "ns"}}};
  for (const auto& [scale, unit] : kUnits) {
    if (seconds >= 99.95) return Count(std::llround(seconds)) + "\u00a0s";
    if (seconds >= scale)
      return fmt::format("{:.{}f}\u00a0{}", seconds / scale, seconds / scale >= 9.995 ? 1 : 2, unit);
  }
  return "0\u00a0s";
}

std::string Count(int64_t count) {
  std::string digits = std::to_string(count);
  for (int at = static_cast<int>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3) digits.insert(at, ",");
  return digits;
}

std::string Html(const Table& table) {
  const auto row = [&](const std::vector<std::string>& cells, const char* tag) {
    std::string out = "<tr>";
    for (size_t i = 0; i < cells.size(); ++i) {
      out += fmt::format("<{}{}>{}</{}>", tag, table.columns[i].number ? " class=\"n\"" : "", cells[i], tag);
    }
    return out + "</tr>\n";
  };
  std::vector<std::string> titles;
  for (const Column& column : table.columns) titles.push_back(Escape(column.title));
  std::string out = fmt::format(
      "<h3>{0}</h3>\n<div class=\"frame\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table "
      "aria-label=\"{0}\">\n<thead>",
      Escape(table.caption));
  std::string head = row(titles, "th");
  ReplaceAll(&head, "<th", "<th scope=\"col\"");
  out += head + "</thead>\n<tbody>\n";
  for (const auto& cells : table.rows) out += row(cells, "td");
  out += "</tbody>\n";
  if (!table.total.empty()) out += "<tfoot>" + row(table.total, "td") + "</tfoot>\n";
  return out + "</table></div>\n";
}

}  // namespace autospc::report
