// A client over plain sockets that can misbehave.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace larder {

struct HttpResponse {
  int status = 0;  // 0: the connection was closed before a whole header came
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
};

/// One connection to 127.0.0.1. Every read gives up after 30 seconds.
class HttpClient {
 public:
  explicit HttpClient(std::uint16_t port);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool send(const std::string& bytes);
  void half_close();  // nothing more will be sent
  void close();
  HttpResponse read_response();
  /// What has come at least up to `text`; all there was when the connection ended first.
  std::string read_until(const std::string& text);
  bool is_closed_by_peer();  // waits for the end
  HttpResponse get(const std::string& path, const std::string& headers = {});
  HttpResponse post(const std::string& path, const std::string& body,
                    const std::string& headers = {});

 private:
  bool receive();
  std::string take(std::size_t n);
  std::string take_line();
  std::string read_chunks();
  int fd_;
  std::string input_;
};

std::string post_text(const std::string& path, const std::string& body,
                      const std::string& headers = {});

}  // namespace larder
