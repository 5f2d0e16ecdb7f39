#include "runtime/dist/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>

namespace autospc {
namespace {

using Deadline = std::chrono::steady_clock::time_point;
using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

Error Failed(Code code, const std::string& what, const std::string& where) {
  return Error{code, fmt::format("{}: {}", what, std::strerror(errno)), where, ""};
}

std::string Where(const std::string& host, int port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Result<Addresses> Resolve(const std::string& host, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) {
    return Error{Code::kPeerFailed, fmt::format("\"{}\" is no known host: {}", host, gai_strerror(failed)), "",
                 "give an address, or a name that every machine of the job resolves"};
  }
  return Addresses(found, freeaddrinfo);
}

std::string Numeric(const sockaddr* address) {
  std::array<char, NI_MAXHOST> text{};
  const socklen_t length = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (getnameinfo(address, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) return "";
  return text.data();
}

// Waits until the socket is ready; false past the deadline.
Result<bool> Ready(int fd, short events, Deadline deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waiting{fd, events, 0};
    const int n = poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left.count() + 1, INT_MAX)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return Failed(Code::kFailed, "poll", "");
  }
}

Error TimedOut(const std::string& where) { return Error{Code::kTimeout, "no answer in time", where, ""}; }

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Result<WayTo> AddressTowards(const std::string& host, int port) {
  ASSIGN_OR_RETURN(const Addresses found, Resolve(host, port, 0));
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    // A datagram socket that is connected only picks its route.
    const Socket probe(socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage mine{};
    socklen_t length = sizeof(mine);
    if (!probe.open() || connect(probe.fd(), a->ai_addr, a->ai_addrlen) != 0 ||
        getsockname(probe.fd(), reinterpret_cast<sockaddr*>(&mine), &length) != 0) {
      continue;
    }
    return WayTo{Numeric(reinterpret_cast<sockaddr*>(&mine)), Numeric(a->ai_addr)};
  }
  return Error{Code::kPeerFailed, fmt::format("no interface of this machine leads to {}", host), Where(host, port),
               "is the network up? `ip route get` tells the way"};
}

Result<std::string> AddressOfInterface(const std::string& interface) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return Failed(Code::kFailed, "getifaddrs", "");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owned(list, freeifaddrs);
  std::string found, found6;
  std::set<std::string> usable;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    usable.insert(i->ifa_name);
    if (interface != i->ifa_name) continue;
    std::string& first = family == AF_INET ? found : found6;
    if (first.empty()) first = Numeric(i->ifa_addr);
  }
  if (!found.empty()) return found;
  if (!found6.empty()) return found6;
  std::string names;
  for (const std::string& name : usable) names += (names.empty() ? "" : ", ") + name;
  return Error{Code::kUsage, fmt::format("there is no interface '{}' with an address", interface), "",
               fmt::format("this machine has {}", names.empty() ? "none that is up" : names)};
}

bool IsLoopback(const std::string& address) { return address.starts_with("127.") || address == "::1"; }

Result<std::pair<Socket, int>> Listen(const std::string& address, int port) {
  const bool any = address.empty();
  ASSIGN_OR_RETURN(const Addresses found, Resolve(any ? "::" : address, port, AI_NUMERICHOST | AI_PASSIVE));
  const addrinfo* at = found.get();
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  any4.sin_port = htons(static_cast<uint16_t>(port));
  Socket listening(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1, off = 0;
  const bool only4 = any && !listening.open();  // a machine without IPv6
  if (only4) listening = Socket(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  setsockopt(listening.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (any && !only4) setsockopt(listening.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  const sockaddr* bound = only4 ? reinterpret_cast<const sockaddr*>(&any4) : at->ai_addr;
  const socklen_t bound_length = only4 ? sizeof(any4) : at->ai_addrlen;
  if (!listening.open() || bind(listening.fd(), bound, bound_length) != 0 || listen(listening.fd(), SOMAXCONN) != 0) {
    const bool taken = errno == EADDRINUSE;
    Error error = Failed(taken ? Code::kUsage : Code::kFailed, "can't listen", Where(any ? "*" : address, port));
    if (taken) error.hint = "another job or an earlier one holds the port: choose another";
    return error;
  }
  sockaddr_storage mine{};
  socklen_t length = sizeof(mine);
  if (getsockname(listening.fd(), reinterpret_cast<sockaddr*>(&mine), &length) != 0)
    return Failed(Code::kFailed, "getsockname", "");
  const uint16_t chosen = mine.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&mine)->sin6_port
                                                     : reinterpret_cast<sockaddr_in*>(&mine)->sin_port;
  return std::pair<Socket, int>(std::move(listening), ntohs(chosen));
}

Result<Socket> Connect(const std::string& address, int port, Deadline deadline) {
  ASSIGN_OR_RETURN(const Addresses found, Resolve(address, port, AI_NUMERICHOST));
  const addrinfo* at = found.get();
  Socket socket_(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const std::string where = Where(address, port);
  if (!socket_.open()) return Failed(Code::kFailed, "socket", where);
  if (connect(socket_.fd(), at->ai_addr, at->ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return Failed(Code::kPeerFailed, "can't connect", where);
    ASSIGN_OR_RETURN(const bool ready, Ready(socket_.fd(), POLLOUT, deadline));
    if (!ready) return TimedOut(where);
    int failure = 0;
    socklen_t length = sizeof(failure);
    getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &failure, &length);
    errno = failure;
    if (failure != 0) return Failed(Code::kPeerFailed, "can't connect", where);
  }
  const int on = 1;
  setsockopt(socket_.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket_;
}

Status SendAll(const Socket& socket, const void* data, size_t bytes, Deadline deadline) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = send(socket.fd(), at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      at += n;
      bytes -= static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      ASSIGN_OR_RETURN(const bool ready, Ready(socket.fd(), POLLOUT, deadline));
      if (!ready) return TimedOut("");
    } else if (errno != EINTR) {
      return Failed(Code::kPeerFailed, "send", "");
    }
  }
  return Ok();
}

Status ReceiveAll(const Socket& socket, void* data, size_t bytes, Deadline deadline) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = recv(socket.fd(), at, bytes, MSG_DONTWAIT);
    if (n > 0) {
      at += n;
      bytes -= static_cast<size_t>(n);
    } else if (n == 0) {
      return Error{Code::kPeerFailed, "the connection was closed", "", ""};
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      ASSIGN_OR_RETURN(const bool ready, Ready(socket.fd(), POLLIN, deadline));
      if (!ready) return TimedOut("");
    } else if (errno != EINTR) {
      return Failed(Code::kPeerFailed, "receive", "");
    }
  }
  return Ok();
}

std::string HostIdentity() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::array<char, 256> name{};
  if (boot.empty() && gethostname(name.data(), name.size() - 1) == 0) boot = name.data();
  std::array<char, 64> network{};
  if (readlink("/proc/self/ns/net", network.data(), network.size() - 1) < 0) network[0] = '\0';
  return boot + " " + network.data();
}

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void IgnoreBrokenPipes() {
  struct sigaction action{};
  if (sigaction(SIGPIPE, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) return;
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

}  // namespace autospc
