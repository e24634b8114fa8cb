#include "pareto_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "svg_text.h"

namespace larder {
namespace {

constexpr double kWidth = 760, kHeight = 460, kLeft = 76, kRight = 28, kTop = 48, kBottom = 56;
constexpr double kRadius = 5, kMostRadius = 14;

/// Places of values on the picture.
struct Axes {
  double most_bytes = 1, low_decade = -6, high_decade = 0, most_speed = 0;

  double x(double bytes) const { return kLeft + bytes / most_bytes * (kWidth - kLeft - kRight); }
  double y(double kl) const {
    const double decade = kl > 0 ? std::max(std::log10(kl), low_decade) : low_decade;
    const double share = (decade - low_decade) / (high_decade - low_decade);
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  }
  double radius(double speed) const {
    return most_speed > 0 && speed > 0 ? std::max(2.5, kMostRadius * std::sqrt(speed / most_speed))
                                       : kRadius;
  }
};

bool is_finite(const ParetoPoint& point) {
  return std::isfinite(point.bytes_per_token) && std::isfinite(point.kl) &&
         std::isfinite(point.speed);
}

Axes axes_for(std::span<const ParetoPoint> points) {
  Axes axes;
  double least_kl = 1, most_kl = 1e-6;
  for (const ParetoPoint& point : points) {
    axes.most_bytes = std::max(axes.most_bytes, 1.08 * point.bytes_per_token);
    axes.most_speed = std::max(axes.most_speed, point.speed);
    if (point.kl > 0) least_kl = std::min(least_kl, point.kl);
    most_kl = std::max(most_kl, point.kl);
  }
  axes.low_decade = std::clamp(std::floor(std::log10(least_kl)) - 1, -9.0, 0.0);
  axes.high_decade = std::max(axes.low_decade + 1, std::ceil(std::log10(most_kl)));
  return axes;
}

std::string grid(const Axes& axes) {
  std::string svg;
  for (double decade = axes.low_decade; decade <= axes.high_decade; ++decade) {
    const double y = axes.y(std::pow(10.0, decade));
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, y, y, kLeft - 8, y + 4,
        decade == axes.low_decade ? "0" : fmt::format("1e{:.0f}", decade));
  }
  constexpr int kTicks = 6;
  const double rough = axes.most_bytes / kTicks;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = rough / power < 2 ? 2 * power : rough / power < 5 ? 5 * power : 10 * power;
  for (double bytes = 0; bytes <= axes.most_bytes; bytes += step) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:g}</text>\n",
                       axes.x(bytes), kHeight - kBottom + 18, bytes);
  }
  return svg + fmt::format(
                   "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">bytes per token</text>\n"
                   "<text x=\"8\" y=\"{}\">mean KL, nats</text>\n",
                   kWidth - kRight, kHeight - 14, kTop - 12);
}

/// Points that none other beats in bytes and KL, from few bytes to many.
std::string frontier(const Axes& axes, std::vector<ParetoPoint> points) {
  std::sort(points.begin(), points.end(), [](const ParetoPoint& a, const ParetoPoint& b) {
    return a.bytes_per_token != b.bytes_per_token ? a.bytes_per_token < b.bytes_per_token
                                                  : a.kl < b.kl;
  });
  std::string path;
  double best = INFINITY;
  for (const ParetoPoint& point : points) {
    if (point.kl >= best) continue;
    best = point.kl;
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", axes.x(point.bytes_per_token),
                        axes.y(point.kl));
  }
  return fmt::format("<polyline class=\"front\" points=\"{}\"/>\n", path);
}

std::string mark(const Axes& axes, const ParetoPoint& point) {
  const double x = axes.x(point.bytes_per_token), y = axes.y(point.kl);
  const double radius = axes.radius(point.speed);
  // Names at the right edge stand before their point.
  const bool before = x > kWidth - 160;
  const std::string speed =
      point.speed > 0 ? fmt::format(", {:.1f} tokens/s", point.speed) : std::string();
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}: {:.0f} bytes per token, KL "
      "{:.6f}{}</title></circle><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n",
      x, y, radius, xml_text(point.name), point.bytes_per_token, point.kl, speed,
      before ? x - radius - 4 : x + radius + 4, y + 4, before ? "end" : "start",
      xml_text(point.name));
}

}  // namespace

std::string pareto_chart(std::span<const ParetoPoint> points, const std::string& title) {
  std::vector<ParetoPoint> drawn;
  std::copy_if(points.begin(), points.end(), std::back_inserter(drawn), is_finite);
  const Axes axes = axes_for(drawn);
  std::string body = fmt::format("<text x=\"8\" y=\"18\">{}</text>\n", xml_text(title));
  body += grid(axes) + frontier(axes, drawn);
  for (const ParetoPoint& point : drawn) body += mark(axes, point);
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
             "role=\"img\">\n"
             "<style>text{{font:13px system-ui,sans-serif;fill:#24292f}}.grid{{stroke:#8884}}"
             ".front{{fill:none;stroke:#1a7f37;stroke-width:2;stroke-dasharray:5 4}}"
             "circle{{fill:#0969da88;stroke:#0969da;stroke-width:2}}"
             "@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>\n",
             kWidth, kHeight) +
         body + "</svg>\n";
}

}  // namespace larder
