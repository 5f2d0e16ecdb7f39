// Changes to a JSON document that leave it one: a value is replaced by another of the document, by an edge of its
// type, taken out, doubled, or wrapped.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace autospc::fuzz {

class JsonMutator {
 public:
  explicit JsonMutator(unsigned seed) : random_(seed) {}

  void Run(nlohmann::json* document) {
    for (size_t n = 1 + Below(3); n > 0; --n) Once(document);
  }

 private:
  using Json = nlohmann::json;

  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }

  // A value of the document, deep ones as likely as others: from the root down a random way, not to its end always.
  Json* Any(Json* document) {
    std::vector<Json*> all;
    Collect(document, &all);
    return all[Below(all.size())];
  }
  static void Collect(Json* at, std::vector<Json*>* all) {
    all->push_back(at);
    if (!at->is_structured()) return;
    for (Json& item : *at) Collect(&item, all);
  }

  Json Edge() {
    switch (Below(12)) {
      case 0: return 0;
      case 1: return -1;
      case 2: return INT64_MAX;
      case 3: return INT64_MIN;
      case 4: return UINT64_MAX;
      case 5: return 1e300;
      case 6: return "";
      case 7: return std::string("a\0b\xff", 4);
      case 8: return nullptr;
      case 9: return Json::array();
      case 10: return Json::object();
      default: return static_cast<int>(Below(10));
    }
  }

  void Once(Json* document) {
    Json* at = Any(document);
    switch (Below(7)) {
      case 0: *at = Edge(); break;
      case 1:
      case 2: {
        Json other = *Any(document);
        *at = std::move(other);
        break;
      }
      case 3:
        if (at->is_structured() && !at->empty()) {
          auto it = at->begin();
          std::advance(it, Below(at->size()));
          at->erase(it);
        }
        break;
      case 4:
        if (at->is_array() && !at->empty()) at->push_back(Json((*at)[Below(at->size())]));
        break;
      case 5:
        if (at->is_array() && at->size() > 1) std::swap((*at)[Below(at->size())], (*at)[Below(at->size())]);
        break;
      default:
        if (at->is_number_integer()) *at = static_cast<int64_t>(static_cast<uint64_t>(at->get<int64_t>()) + Below(5) - 2);
        else if (at->is_string()) Text(at);
        else if (at->is_boolean()) *at = !at->get<bool>();
        break;
    }
  }

  void Text(Json* at) {
    std::string text = at->get<std::string>();
    if (text.empty()) return;
    const size_t place = Below(text.size());
    switch (Below(4)) {
      case 0: text.resize(place); break;
      case 1: text.insert(place, text.substr(Below(text.size()), Below(24))); break;
      case 2: text[place] = static_cast<char>(' ' + Below(95)); break;
      default: text.erase(place, Below(8)); break;
    }
    *at = text;
  }

  std::mt19937 random_;
};

}  // namespace autospc::fuzz
