// Messages between watchdogs, and how their connections are made.
#include "runtime/dist/beat.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace autospc {
namespace {

Beat Words() {
  Beat beat;
  beat.kind = BeatKind::kFailure;
  beat.place = {Activity::kSaving, CollectiveKind::kAllToAll, int64_t{1} << 40, 77};
  beat.about = 3;
  beat.code = Code::kTimeout;
  beat.what = "rank 3 has been silent";
  return beat;
}

void ExpectEqual(const Beat& a, const Beat& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.place.activity, b.place.activity);
  EXPECT_EQ(a.place.collective, b.place.collective);
  EXPECT_EQ(a.place.step, b.place.step);
  EXPECT_EQ(a.place.instruction, b.place.instruction);
  EXPECT_EQ(a.about, b.about);
  EXPECT_EQ(a.code, b.code);
  EXPECT_EQ(a.what, b.what);
}

TEST(BeatTest, ArrivesByteByByte) {
  const std::string bytes = Encode(Words()) + Encode(Beat{});
  BeatReader reader;
  std::vector<Beat> read;
  for (const char c : bytes) {
    reader.Append({&c, 1});
    while (true) {
      const auto next = reader.Next();
      ASSERT_TRUE(next.ok());
      if (!next->has_value()) break;
      read.push_back(**next);
    }
  }
  ASSERT_EQ(read.size(), 2u);
  ExpectEqual(read[0], Words());
  ExpectEqual(read[1], Beat{});
}

TEST(BeatTest, LongTextIsCut) {
  Beat beat = Words();
  beat.what.assign(10 * kMaxBeatText, 'x');
  BeatReader reader;
  reader.Append(Encode(beat));
  const auto next = reader.Next();
  ASSERT_TRUE(next.ok() && next->has_value());
  EXPECT_EQ((**next).what.size(), kMaxBeatText);
}

TEST(BeatTest, WhatIsNoBeatIsRefused) {
  const std::string good = Encode(Words());
  // The magic, the kind, the activity, the collective, the text's length.
  for (const size_t at : {0, 4, 11, 15, 39}) {
    std::string bad = good;
    bad[at] = static_cast<char>(0x7f);
    BeatReader reader;
    reader.Append(bad);
    EXPECT_FALSE(reader.Next().ok()) << at;
  }
}

struct Met {
  std::vector<Result<std::vector<Socket>>> sockets;
  std::vector<Contact> contacts;
};

Met ConnectAll(int size, const std::function<std::string(int)>& secret, std::chrono::milliseconds limit) {
  Met met;
  std::vector<Socket> listening;
  for (int r = 0; r < size; ++r) {
    auto made = Listen("127.0.0.1");
    EXPECT_TRUE(made.ok()) << made.error().Format();
    met.contacts.push_back({"127.0.0.1", made->second});
    listening.push_back(std::move(made->first));
    met.sockets.emplace_back(Error{});
  }
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] { met.sockets[r] = ConnectRanks(r, met.contacts, listening[r], secret(r), deadline); });
  }
  for (std::thread& t : threads) t.join();
  return met;
}

TEST(ConnectRanksTest, EveryoneReachesTheRightOne) {
  const Met met = ConnectAll(
      4, [](int) { return "secret"; }, std::chrono::seconds(20));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (int r = 0; r < 4; ++r) {
    ASSERT_TRUE(met.sockets[r].ok()) << met.sockets[r].error().Format();
    EXPECT_FALSE((*met.sockets[r])[r].open());
  }
  for (int from = 0; from < 4; ++from) {
    for (int to = 0; to < 4; ++to) {
      if (from == to) continue;
      const int sent = 10 * from + to;
      ASSERT_TRUE(SendAll((*met.sockets[from])[to], &sent, sizeof(sent), deadline).ok());
      int received = -1;
      ASSERT_TRUE(ReceiveAll((*met.sockets[to])[from], &received, sizeof(received), deadline).ok());
      EXPECT_EQ(received, sent);
    }
  }
}

TEST(ConnectRanksTest, AStrangerIsNoRank) {
  const Met met = ConnectAll(
      2, [](int r) { return r == 1 ? "another job's" : "this job's"; }, std::chrono::milliseconds(700));
  ASSERT_FALSE(met.sockets[0].ok());
  EXPECT_EQ(met.sockets[0].error().code, Code::kPeerFailed);
  EXPECT_NE(met.sockets[0].error().what.find("rank 1 did not connect to rank 0"), std::string::npos)
      << met.sockets[0].error().Format();
}

TEST(ConnectRanksTest, ARankThatHasEndedIsNamed) {
  auto mine = Listen("127.0.0.1");
  ASSERT_TRUE(mine.ok());
  int closed = 0;
  {
    auto other = Listen("127.0.0.1");
    ASSERT_TRUE(other.ok());
    closed = other->second;
  }
  const auto sockets = ConnectRanks(1, {{"127.0.0.1", closed}, {"127.0.0.1", mine->second}}, mine->first, "secret",
                                    std::chrono::steady_clock::now() + std::chrono::seconds(5));
  ASSERT_FALSE(sockets.ok());
  EXPECT_NE(sockets.error().what.find("rank 1 does not reach rank 0"), std::string::npos) << sockets.error().Format();
}

TEST(NetworkTest, ATakenPortIsSaid) {
  const auto first = Listen("", 0);
  ASSERT_TRUE(first.ok()) << first.error().Format();
  const auto second = Listen("", first->second);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::kUsage);
  EXPECT_NE(second.error().where.find(std::to_string(first->second)), std::string::npos) << second.error().Format();
}

TEST(NetworkTest, AddressesOfThisMachine) {
  const auto way = AddressTowards("127.0.0.1", 80);
  ASSERT_TRUE(way.ok()) << way.error().Format();
  EXPECT_EQ(way->from, "127.0.0.1");
  EXPECT_EQ(way->to, "127.0.0.1");
  EXPECT_TRUE(IsLoopback("127.0.1.1"));
  EXPECT_TRUE(IsLoopback("::1"));
  EXPECT_FALSE(IsLoopback("10.127.0.1"));
  const auto lo = AddressOfInterface("lo");
  ASSERT_TRUE(lo.ok()) << lo.error().Format();
  EXPECT_TRUE(IsLoopback(*lo));
  const auto none = AddressOfInterface("none0");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, Code::kUsage);
  EXPECT_NE(none.error().hint.find("lo"), std::string::npos) << none.error().Format();
  EXPECT_FALSE(AddressTowards("no.such.host.invalid", 80).ok());
  EXPECT_EQ(HostIdentity(), HostIdentity());
  EXPECT_GT(HostIdentity().size(), 10u);
}

}  // namespace
}  // namespace autospc
