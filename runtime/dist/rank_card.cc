#include "runtime/dist/rank_card.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/dist/network.h"

namespace autospc {

std::string Encode(const RankCard& card) {
  nlohmann::json terms = nlohmann::json::array();
  for (const Term& t : card.terms)
    terms.push_back({{"name", t.name}, {"value", t.value}, {"advice", t.advice ? 1 : 0}});
  return JsonText({{"world_size", card.world_size},
                   {"host", card.host},
                   {"address", card.address},
                   {"master", card.master},
                   {"interface_given", card.interface_given ? 1 : 0},
                   {"secret", card.secret},
                   {"terms", terms}});
}

Result<RankCard> DecodeRankCard(const std::string& text, const std::string& where) {
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, where));
  RankCard card;
  ASSIGN_OR_RETURN(const int64_t size, JsonInt(json, "world_size", where));
  ASSIGN_OR_RETURN(const int64_t given, JsonInt(json, "interface_given", where));
  card.world_size = static_cast<int>(size);
  card.interface_given = given != 0;
  ASSIGN_OR_RETURN(card.host, JsonString(json, "host", where));
  ASSIGN_OR_RETURN(card.address, JsonString(json, "address", where));
  ASSIGN_OR_RETURN(card.master, JsonString(json, "master", where));
  ASSIGN_OR_RETURN(card.secret, JsonString(json, "secret", where));
  ASSIGN_OR_RETURN(const nlohmann::json* terms, JsonArray(json, "terms", where));
  for (const nlohmann::json& t : *terms) {
    Term term;
    ASSIGN_OR_RETURN(term.name, JsonString(t, "name", where));
    ASSIGN_OR_RETURN(term.value, JsonString(t, "value", where));
    ASSIGN_OR_RETURN(const int64_t advice, JsonInt(t, "advice", where));
    term.advice = advice != 0;
    card.terms.push_back(std::move(term));
  }
  return card;
}

Neighbourhood FindNeighbours(const std::vector<RankCard>& cards, int rank) {
  const RankCard& mine = cards[rank];
  const auto here = [&](const RankCard& card) { return card.host == mine.host; };
  Neighbourhood neighbours;
  neighbours.local_size = static_cast<int>(std::count_if(cards.begin(), cards.end(), here));
  neighbours.local_rank = static_cast<int>(std::count_if(cards.begin(), cards.begin() + rank, here));
  neighbours.one_machine = neighbours.local_size == static_cast<int>(cards.size());
  neighbours.address = mine.address;
  if (mine.interface_given) return neighbours;
  if (neighbours.one_machine) {
    neighbours.address = "127.0.0.1";
  } else if (IsLoopback(mine.address) && here(cards[0])) {
    for (const RankCard& card : cards) {
      if (here(card) || IsLoopback(card.master)) continue;
      neighbours.address = card.master;
      break;
    }
  }
  return neighbours;
}

}  // namespace autospc
