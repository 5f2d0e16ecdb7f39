// Text for an HTML page, safe whatever the text holds.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace autospc::report {

// For element content and quoted attributes: & < > " ' as entities, control characters and bytes that are no UTF-8 as
// U+FFFD. Module paths and file names may break after . _ / in `breakable` text (<wbr>, element content only).
std::string Escape(std::string_view text);
std::string Breakable(std::string_view text);

// JSON for the content of a <script type="application/json">: no <, > or & occurs in it.
std::string ScriptJson(const nlohmann::json& json);

// Each {{name}} of the page becomes its part; parts are not searched again. An unknown name is our own bug: aborts.
std::string FillPage(std::string_view page, const std::map<std::string, std::string, std::less<>>& parts);

// "sha256-…" of a script, by which a Content-Security-Policy allows it and no other.
std::string PolicyHash(std::string_view script);

// "1.50 GiB" with a space at which lines do not break; "2.71 PFLOP"; "1.20 s", "35.0 ms"; "12,345".
std::string Bytes(int64_t bytes);
std::string Seconds(double seconds);
std::string Count(int64_t count);

// A table in a frame that scrolls by itself. Cells are HTML.
struct Column {
  std::string title;
  bool number = false;  // flush right, tabular figures
};
struct Table {
  std::string caption;
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> total;  // a last row, or empty
};
std::string Html(const Table& table);

}  // namespace autospc::report
