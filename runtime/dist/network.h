// Addresses and TCP connections of this machine, as ranks need them: numeric addresses, every call with a time limit.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <string>
#include <utility>

#include "runtime/base/result.h"

namespace autospc {

// A descriptor that closes itself.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() { Close(); }

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_;
};

// The addresses ("10.0.0.2", "fd00::2") from which this machine reaches `host`, on a machine with several networks the
// one that matters, and by which it does. Sends nothing. kPeerFailed: the name is unknown or no route leads there.
struct WayTo {
  std::string from, to;
};
Result<WayTo> AddressTowards(const std::string& host, int port);
// The first address of an interface ("eth0"). kUsage, with the interfaces that there are, for any other name.
Result<std::string> AddressOfInterface(const std::string& interface);
bool IsLoopback(const std::string& address);

// Listens on a free port of `address` (numeric), or on `port` of every address of this machine where `address` is
// empty. kUsage where the port is taken.
Result<std::pair<Socket, int>> Listen(const std::string& address, int port = 0);
// Connects to a numeric address. kPeerFailed with the reason, kTimeout past the deadline.
Result<Socket> Connect(const std::string& address, int port, std::chrono::steady_clock::time_point deadline);

// Whole buffers, before the deadline. kPeerFailed where the other side is gone.
Status SendAll(const Socket& socket, const void* data, size_t bytes, std::chrono::steady_clock::time_point deadline);
Status ReceiveAll(const Socket& socket, void* data, size_t bytes, std::chrono::steady_clock::time_point deadline);

// What tells two machines, or two network namespaces of one, apart: ranks that agree in it share a loopback interface.
std::string HostIdentity();

// As many open files as the system lets this process have: a rank holds several connections to each other one.
void RaiseFileLimit();

// A write to a connection whose other end is gone fails, which the watchdog explains. By default the process would end
// by SIGPIPE without a word: Gloo writes without MSG_NOSIGNAL. A handler that somebody has set stays.
void IgnoreBrokenPipes();

}  // namespace autospc
