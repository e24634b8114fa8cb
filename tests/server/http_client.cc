#include "server/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <stdexcept>

namespace larder {

HttpClient::HttpClient(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval patience{30, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("cannot connect");
  }
}

HttpClient::~HttpClient() { close(); }

void HttpClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void HttpClient::half_close() { shutdown(fd_, SHUT_WR); }

bool HttpClient::send(const std::string& bytes) {
  for (std::size_t begin = 0; begin < bytes.size();) {
    const ssize_t n = ::send(fd_, bytes.data() + begin, bytes.size() - begin, MSG_NOSIGNAL);
    if (n <= 0) return false;
    begin += static_cast<std::size_t>(n);
  }
  return true;
}

bool HttpClient::receive() {
  char piece[4096];
  const ssize_t n = recv(fd_, piece, sizeof piece, 0);
  if (n <= 0) return false;
  input_.append(piece, static_cast<std::size_t>(n));
  return true;
}

std::string HttpClient::read_until(const std::string& text) {
  while (input_.find(text) == std::string::npos && receive()) {
  }
  const std::size_t at = input_.find(text);
  return take(at == std::string::npos ? input_.size() : at + text.size());
}

bool HttpClient::is_closed_by_peer() {
  while (receive()) {
  }
  char byte = 0;
  return recv(fd_, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

std::string HttpClient::take(std::size_t n) {
  while (input_.size() < n && receive()) {
  }
  n = std::min(n, input_.size());
  std::string taken = input_.substr(0, n);
  input_.erase(0, n);
  return taken;
}

std::string HttpClient::take_line() {
  std::string line = read_until("\r\n");
  if (line.size() >= 2) line.resize(line.size() - 2);
  return line;
}

std::string HttpClient::read_chunks() {
  std::string body;
  for (;;) {
    const std::string size = take_line();
    const std::size_t n = size.empty() ? 0 : std::stoul(size, nullptr, 16);
    body += take(n);
    take_line();
    if (n == 0) return body;
  }
}

HttpResponse HttpClient::read_response() {
  HttpResponse response;
  const std::string status = take_line();
  if (status.rfind("HTTP/1.1 ", 0) != 0) return response;
  response.status = std::stoi(status.substr(9, 3));
  for (std::string line = take_line(); !line.empty(); line = take_line()) {
    const std::size_t colon = line.find(": ");
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    response.headers[name] = colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  if (response.headers.count("content-length") != 0) {
    response.body = take(std::stoul(response.headers["content-length"]));
  } else if (response.headers["transfer-encoding"] == "chunked") {
    response.body = read_chunks();
  }
  return response;
}

std::string post_text(const std::string& path, const std::string& body,
                      const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

HttpResponse HttpClient::get(const std::string& path, const std::string& headers) {
  send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  return read_response();
}

HttpResponse HttpClient::post(const std::string& path, const std::string& body,
                              const std::string& headers) {
  send(post_text(path, body, headers));
  return read_response();
}

}  // namespace larder
