// What a rank tells the others of itself before they are connected.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/agreement.h"

namespace autospc {

struct RankCard {
  int world_size = 0;
  std::string host;     // HostIdentity()
  std::string address;  // numeric, by which it means to be reached
  std::string master;   // numeric, by which it reaches rank 0's machine
  bool interface_given = false;
  std::string secret;  // rank 0's counts
  std::vector<Term> terms;
};

std::string Encode(const RankCard& card);
// kBadInput for what is none; `where` stands in the error.
Result<RankCard> DecodeRankCard(const std::string& text, const std::string& where);

// Who is on one machine, and by which address this rank is to be reached.
struct Neighbourhood {
  bool one_machine = false;
  int local_rank = 0;  // this rank's place among those of its machine
  int local_size = 1;
  std::string address;  // numeric
};

// Where all share a machine it is the loopback interface. A rank whose own address is the loopback one, for that is
// what its machine takes rank 0's name for, takes the address by which ranks on other machines reach it.
Neighbourhood FindNeighbours(const std::vector<RankCard>& cards, int rank);

}  // namespace autospc
