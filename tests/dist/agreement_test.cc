// What ranks must have in common, and by which address they reach each other.
#include "runtime/dist/agreement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/dist/rank_card.h"

namespace autospc {
namespace {

TEST(AgreementTest, EqualTermsPass) {
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckTerms({{{"--lr", "1"}}, {{"--lr", "1"}}, {{"--lr", "1"}}}, &warnings).ok());
  EXPECT_TRUE(warnings.empty());
}

TEST(AgreementTest, NamesTheRankWhatDiffersAndBothValues) {
  const Status status = CheckTerms({{{"the package", "sha256:a"}, {"--lr", "0.1"}, {"--steps", "5"}},
                                    {{"the package", "sha256:a"}, {"--lr", "0.1"}, {"--steps", "5"}},
                                    {{"the package", "sha256:b"}, {"--lr", "0.2"}, {"--steps", "5"}}},
                                   nullptr);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kBadInput);
  EXPECT_EQ(status.error().what,
            "rank 2 does not run what rank 0 runs: the package: sha256:b on rank 2, sha256:a on rank 0; "
            "--lr: 0.2 on rank 2, 0.1 on rank 0");
}

TEST(AgreementTest, ATermThatOneRankLacks) {
  for (const bool first : {true, false}) {
    const std::vector<Term> with = {{"--seed", "3"}}, without;
    const Status status = CheckTerms({first ? with : without, first ? without : with}, nullptr);
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().what.find(first ? "--seed: (none) on rank 1, 3 on rank 0"
                                             : "--seed: 3 on rank 1, (none) on rank 0"),
              std::string::npos)
        << status.error().what;
  }
}

TEST(AgreementTest, AdviceIsOnlyAWarning) {
  std::vector<std::string> warnings;
  const auto with = [](const char* value) { return std::vector<Term>{{"kernels", value, /*advice=*/true}}; };
  EXPECT_TRUE(CheckTerms({with("AVX512"), with("AVX2"), with("AVX2")}, &warnings).ok());
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "kernels: AVX2 on rank 1, AVX512 on rank 0");
}

TEST(AgreementTest, TheMachineSaysItsLibTorch) {
  bool found = false;
  for (const Term& term : MachineTerms()) {
    EXPECT_FALSE(term.value.empty()) << term.name;
    if (term.name.find("LibTorch") != std::string::npos && !term.advice) {
      found = true;
      EXPECT_EQ(std::count(term.value.begin(), term.value.end(), '.'), 2) << term.value;
    }
  }
  EXPECT_TRUE(found);
}

TEST(FingerprintTest, TellsFilesApart) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / fmt::format("autospc-fingerprint-{}", getpid());
  fs::create_directories(folder / "a");
  fs::create_directories(folder / "b");
  const auto write = [&](const fs::path& name, size_t bytes, char last) {
    std::string data(bytes, 'x');
    data.back() = last;
    std::ofstream(folder / name, std::ios::binary) << data;
    return (folder / name).string();
  };
  const std::string one = write("one", 300000, '1');
  EXPECT_EQ(Fingerprint(one), Fingerprint(write("same", 300000, '1')));
  EXPECT_NE(Fingerprint(one), Fingerprint(write("last", 300000, '2')));
  EXPECT_NE(Fingerprint(one), Fingerprint(write("longer", 300001, '1')));
  EXPECT_NE(Fingerprint(one).find("300000 bytes"), std::string::npos);
  EXPECT_NE(Fingerprint(write("small", 10, 'a')), Fingerprint(write("small2", 10, 'b')));
  write("a/w", 100, '1');
  write("b/w", 100, '1');
  EXPECT_EQ(Fingerprint((folder / "a").string()), Fingerprint((folder / "b").string()));
  write("b/w", 100, '2');
  EXPECT_NE(Fingerprint((folder / "a").string()), Fingerprint((folder / "b").string()));
  EXPECT_EQ(Fingerprint("/dev/null"), "");
  EXPECT_EQ(Fingerprint((folder / "absent").string()), "");
  fs::remove_all(folder);
}

// Its reader is the training, and its writer must not lose it before.
TEST(FingerprintTest, LeavesAPipeAlone) {
  const std::string pipe = testing::TempDir() + fmt::format("autospc-pipe-{}", getpid());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::atomic<bool> opened{false};
  std::thread writer([&] {
    const int fd = open(pipe.c_str(), O_WRONLY);  // waits for a reader
    opened = true;
    close(fd);
  });
  EXPECT_EQ(Fingerprint(pipe), "");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(opened.load());
  const int reader = open(pipe.c_str(), O_RDONLY);
  writer.join();
  close(reader);
  unlink(pipe.c_str());
}

RankCard Card(const std::string& host, const std::string& address, const std::string& master) {
  RankCard card;
  card.world_size = 4;
  card.host = host;
  card.address = address;
  card.master = master;
  return card;
}

TEST(RankCardTest, TravelsAsText) {
  RankCard card = Card("h \"1\"", "10.0.0.1", "10.0.0.2");
  card.interface_given = true;
  card.secret = "s";
  card.terms = {{"--lr", "0.1"}, {"kernels", "AVX2", true}};
  const auto read = DecodeRankCard(Encode(card), "here");
  ASSERT_TRUE(read.ok()) << read.error().Format();
  EXPECT_EQ(read->world_size, 4);
  EXPECT_EQ(read->host, card.host);
  EXPECT_EQ(read->address, card.address);
  EXPECT_EQ(read->master, card.master);
  EXPECT_TRUE(read->interface_given);
  EXPECT_EQ(read->secret, "s");
  EXPECT_EQ(read->terms, card.terms);
  EXPECT_EQ(DecodeRankCard("{}", "here").error().code, Code::kBadInput);
}

TEST(NeighbourhoodTest, OneMachineUsesItsLoopback) {
  const std::vector<RankCard> cards = {Card("a", "10.0.0.1", "10.0.0.1"), Card("a", "10.0.0.1", "10.0.0.1")};
  const Neighbourhood n = FindNeighbours(cards, 1);
  EXPECT_TRUE(n.one_machine);
  EXPECT_EQ(n.address, "127.0.0.1");
  EXPECT_EQ(n.local_rank, 1);
  EXPECT_EQ(n.local_size, 2);
}

TEST(NeighbourhoodTest, SeveralMachinesUseTheWayToRank0) {
  const std::vector<RankCard> cards = {Card("a", "10.0.0.1", "10.0.0.1"), Card("a", "10.0.0.1", "10.0.0.1"),
                                       Card("b", "10.0.0.2", "10.0.0.1"), Card("b", "10.0.0.2", "10.0.0.1")};
  const Neighbourhood n = FindNeighbours(cards, 3);
  EXPECT_FALSE(n.one_machine);
  EXPECT_EQ(n.address, "10.0.0.2");
  EXPECT_EQ(n.local_rank, 1);
  EXPECT_EQ(n.local_size, 2);
}

// Debian's /etc/hosts calls the machine's own name 127.0.1.1: useless to the others, who know better.
TEST(NeighbourhoodTest, Rank0LearnsItsAddressFromTheOthers) {
  const std::vector<RankCard> cards = {Card("a", "127.0.0.1", "127.0.1.1"), Card("b", "10.0.0.2", "10.0.0.1")};
  EXPECT_EQ(FindNeighbours(cards, 0).address, "10.0.0.1");
  EXPECT_EQ(FindNeighbours(cards, 1).address, "10.0.0.2");
}

TEST(NeighbourhoodTest, AChosenInterfaceStays) {
  std::vector<RankCard> cards = {Card("a", "127.0.0.1", "127.0.1.1"), Card("b", "10.0.0.2", "10.0.0.1")};
  cards[0].interface_given = true;
  cards[0].address = "192.168.1.1";
  EXPECT_EQ(FindNeighbours(cards, 0).address, "192.168.1.1");
}

}  // namespace
}  // namespace autospc
